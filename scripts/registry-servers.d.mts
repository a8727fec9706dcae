// SPDX-License-Identifier: Apache-2.0
// Types of registry-servers.mjs for the tests, which find servers the same way but never fetch them.
export type ServerName = 'consul' | 'etcd';
export function findServer(name: ServerName): string | undefined;
export function supplyHint(name: ServerName): string;
export function provideServer(name: ServerName): string;
export function main(name: ServerName): void;
