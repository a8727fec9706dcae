// SPDX-License-Identifier: Apache-2.0
// The contract of every datapath, on the real program and maps, attached to nothing.
import { openPrivateDatapath } from '../../src/datapath/open.ts';
import { datapathContract } from '../support/datapath-contract.ts';
import { sendThrough, smallOptions, surroundings } from '../support/datapath-subject.ts';
import { whyNoBpf } from '../support/privileged.ts';

datapathContract(
	'private',
	async (limits) => {
		const datapath = await openPrivateDatapath(surroundings(), smallOptions(limits));
		return { datapath, send: (flow, packet) => sendThrough(datapath, flow, packet), dispose: () => datapath.close() };
	},
	whyNoBpf() ?? false,
);
