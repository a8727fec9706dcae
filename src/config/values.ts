// SPDX-License-Identifier: Apache-2.0
// The scalar values of the configuration: text in, typed value out. Addresses become what src/model/address.ts
// makes of them, durations milliseconds, percentages fractions; nothing behind the schema parses text again.
// Every refusal carries `params.expected`, from which src/config/issues.ts makes its sentence.
import { z } from 'zod';
import { type Address, familyOf, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';

const DURATION = /^(\d{1,9})(ms|s|m|h|d)$/;
const MS_PER_UNIT: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of "50ms", "30s", "10m", "6h" or "7d"; undefined for any other text. */
export function parseDuration(text: string): number | undefined {
	const [, count, unit = ''] = DURATION.exec(text) ?? [];
	const scale = MS_PER_UNIT[unit];
	return count === undefined || scale === undefined ? undefined : Number(count) * scale;
}

/** The shortest text that parseDuration reads back as `ms`. */
export function formatDuration(ms: number): string {
	const units = Object.entries(MS_PER_UNIT).reverse();
	const [unit, scale] = units.find(([, s]) => ms > 0 && ms % s === 0) ?? ['ms', 1];
	return `${ms / scale}${unit}`;
}

/** What a text scalar is: how it reads, what it becomes. */
interface TextKind<T> {
	/** One word for tables: "duration", "address". */
	readonly title: string;
	/** Completes "expected ...". */
	readonly expected: string;
	readonly description: string;
	readonly examples: readonly string[];
	/** For the JSON Schema: catches typing errors in an editor; `parse` decides. */
	readonly pattern?: string;
	readonly parse: (text: string) => T | undefined;
}

/** A string scalar that `parse` turns into a T; undefined is refused with `expected`. */
export function text<T>(kind: TextKind<T>) {
	const { title, description, examples, pattern } = kind;
	return z
		.string({ error: () => ({ message: kind.expected }) })
		.meta({ title, description, examples: [...examples], ...(pattern === undefined ? {} : { pattern }) })
		.transform((value, context): T => {
			const parsed = kind.parse(value);
			if (parsed !== undefined) return parsed;
			context.addIssue({ code: 'custom', message: kind.expected, params: { expected: kind.expected } });
			return z.NEVER;
		});
}

/** A duration within [min, max], both written as in the configuration. Becomes milliseconds. */
export function duration(min: string, max: string, description: string) {
	const least = parseDuration(min) ?? 0;
	const most = parseDuration(max) ?? Number.POSITIVE_INFINITY;
	return text({
		title: 'duration',
		expected: `a duration from ${min} to ${max}, such as "50ms", "30s", "10m" or "6h"`,
		description: `${description} A duration from ${min} to ${max}.`,
		examples: ['50ms', '30s', '10m', '6h'],
		pattern: '^[0-9]{1,9}(ms|s|m|h|d)$',
		parse: (value) => {
			const ms = parseDuration(value);
			return ms !== undefined && ms >= least && ms <= most ? ms : undefined;
		},
	});
}

/** "0%" to "100%". Becomes a fraction, 0 to 1. */
export function percentage(description: string) {
	return text({
		title: 'percentage',
		expected: 'a percentage from 0% to 100%, such as "50%"',
		description,
		examples: ['50%'],
		pattern: '^[0-9]{1,3}%$',
		parse: (value) => {
			const [, digits] = /^(\d{1,3})%$/.exec(value) ?? [];
			return digits !== undefined && Number(digits) <= 100 ? Number(digits) / 100 : undefined;
		},
	});
}

export function addressText(description: string) {
	return text<Address>({
		title: 'address',
		expected: 'an IPv4 or IPv6 address, such as 10.0.0.1 or "fd00::1"',
		description,
		examples: ['10.0.0.1', 'fd00::1'],
		parse: parseAddress,
	});
}

/** `auto`, or an address of one family. */
export function autoOrAddress(family: 4 | 6, description: string) {
	return text<'auto' | Address>({
		title: '`auto` or address',
		expected: `auto or an IPv${family} address`,
		description,
		examples: ['auto', family === 4 ? '192.0.2.1' : '2001:db8::1'],
		parse: (value) => {
			if (value === 'auto') return value;
			const parsed = parseAddress(value);
			return parsed !== undefined && familyOf(parsed) === family ? parsed : undefined;
		},
	});
}

/** A prefix whose host bits are clear; a bare address is a host prefix. */
export function prefixText(description: string) {
	return text<Prefix>({
		title: 'prefix',
		expected: 'an address or a prefix without host bits, such as 10.0.0.0/8 or "fd00::/8"',
		description,
		examples: ['10.0.0.0/8', 'fd00::/8'],
		parse: parseCleanPrefix,
	});
}

/** As parsePrefix, but 10.0.0.1/8 is refused: whoever wrote it meant 10.0.0.1 or 10.0.0.0/8, and only they know which. */
export function parseCleanPrefix(value: string): Prefix | undefined {
	const parsed = parsePrefix(value);
	const slash = value.indexOf('/');
	if (parsed === undefined || slash < 0) return parsed;
	return parsed.address === parseAddress(value.slice(0, slash)) ? parsed : undefined;
}

/** `auto`, or a unicast MAC address. Becomes `auto` or its 6 bytes in wire order. */
export const gatewayMac = text<'auto' | Uint8Array>({
	title: '`auto` or MAC',
	expected: 'auto or the MAC address of one host, such as 02:00:00:00:00:01',
	description:
		"Destination MAC of everything sent: `auto` = the next hop of the interface's default route, followed when it changes; or a MAC address.",
	examples: ['auto', '02:00:00:00:00:01'],
	pattern: '^(auto|([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})$',
	parse: (value) => {
		if (value === 'auto') return value;
		if (!/^([\da-f]{2}:){5}[\da-f]{2}$/i.test(value)) return undefined;
		const bytes = Uint8Array.from(value.split(':'), (pair) => Number.parseInt(pair, 16));
		const group = ((bytes[0] ?? 1) & 1) === 1;
		return group || bytes.every((b) => b === 0) ? undefined : bytes;
	},
});

/** A name of the kernel's: 1 to 15 bytes, no slash, no blank (dev_valid_name in net/core/dev.c). */
export const interfaceName = text({
	title: 'interface',
	expected: 'the name of a network interface: 1 to 15 characters, no slash, colon or blank',
	description: 'Name of a network interface.',
	examples: ['eth0'],
	pattern: '^[^/:\\s]{1,15}$',
	parse: (value) => (/^[^/:\s]{1,15}$/.test(value) && value !== '.' && value !== '..' ? value : undefined),
});

/** Names of pools and sources: they become map rows, log fields and metric labels. */
export const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const NAME_EXPECTED = 'a name of 1 to 63 letters, digits, ".", "_" or "-" that begins with a letter or digit';

export function nameText(description: string) {
	return text({
		title: 'name',
		expected: NAME_EXPECTED,
		description,
		examples: ['web'],
		pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$',
		parse: (value) => (NAME.test(value) ? value : undefined),
	});
}

/** Printable text of 1 to `max` characters: what a registry may call a service, a tag, a datacenter, a user. */
export function label(max: number, description: string) {
	return text({
		title: 'text',
		expected: `1 to ${max} printable characters`,
		description,
		examples: [],
		parse: (value) => (value.length > 0 && value.length <= max && !/[\p{C}\p{Zl}\p{Zp}]/u.test(value) ? value : undefined),
	});
}

/** A path in the file system. Relative ones are relative to the configuration file; loadConfig makes them absolute. */
export function pathText(description: string) {
	return text({
		title: 'path',
		expected: 'a path',
		description: `${description} Relative paths start at this file's folder.`,
		examples: [],
		parse: (value) => (value.length > 0 && value.length < 4096 && !value.includes('\0') ? value : undefined),
	});
}

/** An absolute path without "." and ".." parts. */
export function absolutePath(max: number, description: string) {
	return text({
		title: 'absolute path',
		expected: `an absolute path of at most ${max} bytes without "." or ".." parts`,
		description,
		examples: [],
		pattern: '^/',
		parse: (value) => {
			const parts = value.split('/').slice(1);
			const good = value.startsWith('/') && !value.includes('\0') && parts.every((p) => p !== '' && p !== '.' && p !== '..');
			return good && Buffer.byteLength(value) <= max ? value : undefined;
		},
	});
}

/** A whole number within [min, max]. */
export function integer(min: number, max: number, description: string) {
	return z.int().min(min).max(max).meta({ description });
}

export function isPrime(n: number): boolean {
	if (n < 2) return false;
	for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
	return true;
}
