// SPDX-License-Identifier: Apache-2.0
// Users and groups of this host, from /etc/passwd and /etc/group (passwd(5), group(5)).
import { readFileSync } from 'node:fs';

export interface Group {
	readonly gid: number;
	/** Names of the users that have it as a supplementary group. */
	readonly members: readonly string[];
}

export interface UserDatabase {
	/** By name or by number. */
	group(nameOrGid: string): Group | undefined;
	userName(uid: number): string | undefined;
}

/** Reads the files anew at every question: group memberships change while a daemon runs. */
export function userDatabase(etc = '/etc'): UserDatabase {
	return {
		group(nameOrGid) {
			const isNumber = /^\d{1,10}$/.test(nameOrGid);
			const row = rows(`${etc}/group`).find(([name, , gid]) => (isNumber ? gid === nameOrGid : name === nameOrGid));
			if (row === undefined) return isNumber ? { gid: Number(nameOrGid), members: [] } : undefined;
			return { gid: Number(row[2]), members: (row[3] ?? '').split(',').filter((name) => name !== '') };
		},
		userName: (uid) => rows(`${etc}/passwd`).find(([, , id]) => Number(id) === uid)?.[0],
	};
}

function rows(file: string): string[][] {
	return readFileSync(file, 'utf8')
		.split('\n')
		.filter((row) => row !== '')
		.map((row) => row.split(':'));
}
