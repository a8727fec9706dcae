// SPDX-License-Identifier: Apache-2.0
// A node:test reporter that prints one line for each skipped test: file, name, reason. run-tests.mjs reads them.
export default async function* skips(source) {
	for await (const { type, data } of source) {
		if ((type === 'test:pass' || type === 'test:fail') && data.skip !== undefined) {
			yield `${JSON.stringify({ file: data.file, name: data.name, reason: data.skip === true ? '' : String(data.skip) })}\n`;
		}
	}
}
