// SPDX-License-Identifier: Apache-2.0
// Sends a lot to whoever connects, its name first: for packets as large as a path takes. Arguments: name, bytes, port,
// then the addresses to listen on. Prints one line when it listens on all of them.
import { once } from 'node:events';
import { createServer } from 'node:net';

const [name = '', bytes = '', port = '', ...addresses] = process.argv.slice(2);
for (const address of addresses) {
	const server = createServer((socket) => {
		socket.on('error', () => {});
		socket.end(name.padEnd(Number(bytes), '.'));
	});
	server.listen(Number(port), address);
	await once(server, 'listening');
}
process.stdout.write('listening\n');
