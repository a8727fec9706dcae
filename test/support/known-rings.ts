// SPDX-License-Identifier: Apache-2.0
// Rings whose every slot is known: built once from the sources of Katran (the hash of addresses from folly), noted here
// as a digest over the slots, the first of them, and what the first members got. Both builders must give these.
import { type Address, address } from '../../src/model/address.ts';
import { endpointHash } from '../../src/ring/hash.ts';

export interface KnownRing {
	readonly name: string;
	readonly version: 1 | 2;
	readonly size: number;
	/** Endpoint hashes; member i has the number first + i. */
	readonly hashes: readonly bigint[];
	readonly first: number;
	/** Repeated over the members. */
	readonly weights: readonly number[];
	/** Numbers in the first slots. */
	readonly head: readonly number[];
	/** Slots of the first members. */
	readonly counts: readonly number[];
	/** SHA-256 over the number in each slot as a little-endian u32. */
	readonly sha256: string;
}

type Answer = readonly [head: string, counts: string, sha256: string];

const numbers = (n: number, hash: (i: number) => number) => Array.from({ length: n }, (_, i) => BigInt(hash(i)));
const hashesOf = (...texts: string[]) => texts.map((t): Address => address(t)).map(endpointHash);
const ipv4 = hashesOf('10.0.0.1', '10.0.0.2', '10.0.0.3');
const ipv6 = hashesOf('fc00::1', 'fc00::2', 'fc00::3');
const twoHundred = hashesOf(...Array.from({ length: 200 }, (_, i) => `10.1.${Math.floor(i / 100)}.${(i % 100) + 1}`));

/** All known rings: each set of members in both versions. */
export function knownRings(): KnownRing[] {
	return [
		...both(
			'two members, equal weights, 7 slots',
			7,
			numbers(2, (i) => 1000 * (i + 1)),
			0,
			[1],
			['1 1 0 1 0 0 0', '4 3', 'f096a38a35bd1b20b572b9c159f457e24fcef4a7c568e1da5868f837f65f5fc4'],
			['1 1 0 1 0 0 0', '4 3', 'f096a38a35bd1b20b572b9c159f457e24fcef4a7c568e1da5868f837f65f5fc4'],
		),
		...both(
			'two members, weights 2 and 1, 7 slots',
			7,
			numbers(2, (i) => 1000 * (i + 1)),
			0,
			[2, 1],
			['1 1 0 1 0 0 0', '4 3', 'f096a38a35bd1b20b572b9c159f457e24fcef4a7c568e1da5868f837f65f5fc4'],
			['1 0 0 1 0 0 0', '5 2', '74fadafa1142a8bb0ab1b5b7d2f21ebe6a4acce5cbe7f5505c2fbe052b0db2a2'],
		),
		...both(
			'three members, equal weights',
			65537,
			numbers(3, (i) => i),
			0,
			[1],
			[
				'1 0 1 0 1 0 1 0 2 2 1 2 2 0 2 0 2 1 2 1 0 1 2 2 2 1 2 1 2 0 1 0',
				'21846 21846 21845',
				'8d3e9f1666818199a0c00d3ce05427164504d7851f22a8e02cb21c34bc1b9bd4',
			],
			[
				'1 0 1 0 1 0 1 0 2 2 1 2 2 0 2 0 2 1 2 1 0 1 2 2 2 1 2 1 2 0 1 0',
				'21846 21846 21845',
				'8d3e9f1666818199a0c00d3ce05427164504d7851f22a8e02cb21c34bc1b9bd4',
			],
		),
		...both(
			'three members, the first with twice the weight',
			65537,
			numbers(3, (i) => i),
			0,
			[2, 1, 1],
			[
				'1 0 1 0 1 0 1 0 2 2 1 2 2 0 2 0 2 1 2 1 0 1 2 2 2 1 2 1 2 0 1 0',
				'21847 21845 21845',
				'c59ff458f74a384859db6d12780cf5809f31599be472fbf275ed43aa98319554',
			],
			[
				'1 0 1 0 1 0 1 0 2 2 1 2 0 0 0 0 0 0 0 1 0 1 2 2 2 1 2 1 2 0 1 0',
				'32769 16384 16384',
				'fca20469613274ac0a32d9ee50e81adee6e0444cda7851f84bfc97ebc23c2a1f',
			],
		),
		...both(
			'100 members of weight 10',
			65537,
			numbers(100, (i) => i),
			0,
			[10],
			[
				'64 30 79 59 78 9 82 91 25 8 13 61 85 86 75 46 31 36 17 80 80 17 61 99 25 68 3 70 62 24 47 72',
				'656 656 656 656 656 656 656 656 656 656',
				'be02a296cd9366ae12fa7495bae5e5e3111af8e3f043554768d3513b7e2c44d5',
			],
			[
				'64 30 79 59 78 9 82 91 25 8 13 61 85 86 75 46 31 36 17 80 80 17 61 99 25 68 3 70 62 24 47 72',
				'656 656 656 656 656 656 656 656 656 656',
				'9ea64fc854f11b9caab89a45b77abc2ffc787016c65cca37c90127922bac3218',
			],
		),
		...both(
			'400 members of weight 100',
			65537,
			numbers(400, (i) => 10 * i),
			0,
			[100],
			[
				'208 219 174 22 227 138 33 250 114 375 387 172 14 103 338 62 2 341 339 8 147 176 268 367 19 259 92 83 290 143 324 6',
				'164 164 164 164 164 164 164 164 164 164',
				'3b2f6bd5047fbd8f0f169fd4cb8e988877cc1784e37483f0a15f8ab66d3ded9a',
			],
			[
				'352 219 174 22 227 138 33 294 114 375 372 172 14 103 338 62 2 341 339 8 147 176 268 367 19 259 92 83 290 143 324 6',
				'164 164 164 164 164 164 164 164 164 164',
				'df485a657f6cb17e336ccf41bf3f40c9afcaf6550633cbfe38ae0bb55ec48ca5',
			],
		),
		...both(
			'400 members of weight 1',
			65537,
			numbers(400, (i) => i),
			0,
			[1],
			[
				'64 351 265 220 380 153 213 91 108 396 13 373 140 149 316 348 381 375 180 80 230 17 125 372 148 375 214 317 165 201 269 135',
				'164 164 164 164 164 164 164 164 164 164',
				'b063260f9ffb7eee53e1a21eccfc50d1ebbf3839b6435e08d4b30d9ef2ccb7d0',
			],
			[
				'64 351 265 220 380 153 213 91 108 396 13 373 140 149 316 348 381 375 180 80 230 17 125 372 148 375 214 317 165 201 269 135',
				'164 164 164 164 164 164 164 164 164 164',
				'b063260f9ffb7eee53e1a21eccfc50d1ebbf3839b6435e08d4b30d9ef2ccb7d0',
			],
		),
		...both(
			'400 members whose weights exceed the ring',
			65537,
			numbers(400, (i) => i),
			0,
			[327],
			[
				'35 181 177 187 78 9 166 91 25 139 13 108 140 86 75 155 119 36 180 80 80 17 61 99 148 160 193 171 62 146 47 72',
				'327 327 327 327 327 327 327 327 327 327',
				'3b03fd5de44bc182866f7080893656c158f7db8c32bbd5d0fb361f7a298c767b',
			],
			[
				'64 351 265 220 380 153 213 91 108 396 13 373 140 149 316 348 381 375 180 80 230 17 125 372 148 375 214 317 165 201 269 135',
				'164 164 164 164 164 164 164 164 164 164',
				'b063260f9ffb7eee53e1a21eccfc50d1ebbf3839b6435e08d4b30d9ef2ccb7d0',
			],
		),
		...both(
			'three IPv4 backends',
			65537,
			ipv4,
			1,
			[1],
			[
				'2 1 3 2 1 3 3 1 1 2 1 2 2 1 2 3 1 2 3 1 3 2 2 2 3 3 2 3 1 3 1 1',
				'21845 21846 21846',
				'2790e8c3fe9ecc1f97570386e3fc15608aa00dbcd19b2186bfc78b9105af3959',
			],
			[
				'2 1 3 2 1 3 3 1 1 2 1 2 2 1 2 3 1 2 3 1 3 2 2 2 3 3 2 3 1 3 1 1',
				'21845 21846 21846',
				'2790e8c3fe9ecc1f97570386e3fc15608aa00dbcd19b2186bfc78b9105af3959',
			],
		),
		...both(
			'three IPv4 backends, weights 10, 20, 30',
			65537,
			ipv4,
			1,
			[10, 20, 30],
			[
				'2 1 3 2 1 3 3 1 1 2 1 2 2 1 2 3 1 2 3 1 3 2 2 2 3 3 2 3 1 3 1 1',
				'21835 21846 21856',
				'3b23245ce8bdbfefe0448f42fa9c73472fcb9e0651c1312d288c6a72e7b643e4',
			],
			[
				'2 3 3 2 1 3 3 1 3 2 3 3 2 1 2 3 1 2 3 3 3 2 2 3 3 3 2 3 2 3 3 2',
				'10922 21846 32769',
				'134807bb0864c1b3ac29fb22583156715d17b8ccf8ab23951cbe035db46579bf',
			],
		),
		...both(
			'three IPv6 backends',
			65537,
			ipv6,
			4,
			[1],
			[
				'5 6 5 5 5 6 6 6 4 6 5 5 5 5 6 6 6 4 4 5 5 5 6 6 6 4 4 4 5 5 6 6',
				'21846 21845 21846',
				'9a7f34b7affeac708bdf7db6d76405213432070281a91c630215cea078eae17d',
			],
			[
				'5 6 5 5 5 6 6 6 4 6 5 5 5 5 6 6 6 4 4 5 5 5 6 6 6 4 4 4 5 5 6 6',
				'21846 21845 21846',
				'9a7f34b7affeac708bdf7db6d76405213432070281a91c630215cea078eae17d',
			],
		),
		...both(
			'three IPv6 backends, weights 1, 5, 3',
			65537,
			ipv6,
			4,
			[1, 5, 3],
			[
				'5 6 5 5 5 6 6 6 4 6 5 5 5 5 6 6 6 4 4 5 5 5 6 6 6 4 4 4 5 5 6 6',
				'21844 21847 21846',
				'1e8e5e112e304337994ce1ce091c1e240af21eea05db4e88a768785030b23481',
			],
			[
				'5 6 5 5 5 5 6 6 4 5 5 5 5 5 6 6 6 4 4 5 5 5 5 6 6 4 4 4 5 5 5 6',
				'7282 36409 21846',
				'92467a70c306af2631e8de1d2ce8ae34fd213d33149d0d688f404fd87fe6b42b',
			],
		),
		...both(
			'backends of both families',
			65537,
			[...ipv4, ...ipv6],
			1,
			[1],
			[
				'5 6 3 2 1 3 3 1 4 6 5 2 5 1 2 6 6 4 4 5 3 5 2 6 6 4 4 4 5 3 6 6',
				'10922 10923 10923 10923 10923 10923',
				'73c6fdbbfa53623def44e12967c0409f993296e229f613f4e8f3a7d7f4f3447d',
			],
			[
				'5 6 3 2 1 3 3 1 4 6 5 2 5 1 2 6 6 4 4 5 3 5 2 6 6 4 4 4 5 3 6 6',
				'10922 10923 10923 10923 10923 10923',
				'73c6fdbbfa53623def44e12967c0409f993296e229f613f4e8f3a7d7f4f3447d',
			],
		),
		...both(
			'200 IPv4 backends of weight 327',
			65537,
			twoHundred,
			1,
			[327],
			[
				'93 174 44 168 176 180 25 116 110 140 46 97 85 6 109 2 178 142 142 2 52 176 144 100 43 185 16 159 185 24 150 105',
				'328 328 328 327 327 328 327 328 328 327',
				'a9f4acede2f1f42462221d45aacce5aba858e9857bc2308b97e27ff5a5369ef6',
			],
			[
				'93 174 44 168 176 180 25 34 30 26 46 97 85 6 109 2 178 142 142 142 52 20 38 100 43 185 93 97 185 169 74 31',
				'328 328 328 327 327 328 327 328 328 327',
				'588f5a5b437d6f35e90cb9bd94d0f54367f7b9913f5058e5535926df6c32fedd',
			],
		),
		...both(
			'200 IPv4 backends, weights 100, 200, 300 in turn',
			65537,
			twoHundred,
			1,
			[100, 200, 300],
			[
				'93 174 44 168 176 180 25 65 30 26 84 97 85 6 109 2 178 129 142 142 52 20 38 21 43 185 93 159 86 169 150 105',
				'229 328 429 228 328 428 228 328 428 228',
				'01c2392fe92742dd2eecb25bf131c8515f0e01d00fbb98bce24e74fbb1ab0ce2',
			],
			[
				'93 174 44 168 176 180 25 116 30 26 84 97 85 6 123 2 178 129 102 142 159 20 38 141 43 185 93 159 86 24 74 105',
				'164 328 494 164 328 493 164 328 493 164',
				'e9d685f3598454cda367cd132044a99e96cedf460e3a5c2f975bdf2aa8740475',
			],
		),
		...both(
			'one member has every slot',
			65537,
			hashesOf('10.0.0.5'),
			5,
			[1],
			[
				'5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5',
				'65537',
				'a6d31d68694ef8a3d2fbdb68e9692c7059d5766c54ba1b690a599fe79148db2c',
			],
			[
				'5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5',
				'65537',
				'a6d31d68694ef8a3d2fbdb68e9692c7059d5766c54ba1b690a599fe79148db2c',
			],
		),
	];
}

function both(
	name: string,
	size: number,
	hashes: readonly bigint[],
	first: number,
	weights: readonly number[],
	v1: Answer,
	v2: Answer,
): KnownRing[] {
	const list = (text: string) => text.split(' ').map(Number);
	return [v1, v2].map(([head, counts, sha256], i) => ({
		name,
		version: i === 0 ? 1 : 2,
		size,
		hashes,
		first,
		weights,
		head: list(head),
		counts: list(counts),
		sha256,
	}));
}
