// SPDX-License-Identifier: Apache-2.0
// Downloads from a bulk server again and again and prints a JSON list of { target, name, bytes, error }. Arguments: times,
// deadline in milliseconds, port, then addresses.
import { connect } from 'node:net';

const [times = '', deadlineMs = '', port = '', ...addresses] = process.argv.slice(2);

function download(target: string): Promise<object> {
	return new Promise((resolve) => {
		const socket = connect(Number(port), target);
		let bytes = 0;
		let head = '';
		const done = (error: string | null) => {
			clearTimeout(timer);
			socket.destroy();
			resolve({ target, name: /^\w*/.exec(head)?.[0], bytes, error });
		};
		const timer = setTimeout(() => done(`only ${bytes} bytes in ${deadlineMs} ms`), Number(deadlineMs));
		socket.on('data', (chunk: Buffer) => {
			if (head.length < 16) head += chunk.toString('latin1', 0, 16);
			bytes += chunk.length;
		});
		socket.on('end', () => done(null));
		socket.on('error', (e) => done(e.message));
	});
}

const results: object[] = [];
for (let i = 0; i < Number(times); i++) for (const address of addresses) results.push(await download(address));
process.stdout.write(`${JSON.stringify(results)}\n`);
