// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the candidate that a misspelt word most likely stands for.

/**
 * The candidate with the least edit distance (a swap of neighbours counts as one edit), or undefined when
 * none is near: at most one edit in each three characters of the word.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
	let best: { readonly candidate: string; readonly distance: number } | undefined;
	for (const candidate of candidates) {
		const limit = Math.max(1, Math.floor(Math.max(word.length, candidate.length) / 3));
		if (Math.abs(word.length - candidate.length) > limit) continue;
		const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
		if (distance <= limit && (best === undefined || distance < best.distance)) best = { candidate, distance };
	}
	return best?.candidate;
}

/** Optimal string alignment distance. */
function editDistance(a: string, b: string): number {
	let beforeLast: number[] = [];
	let last = Array.from({ length: b.length + 1 }, (_, j) => j);
	for (let i = 1; i <= a.length; i++) {
		const row = [i];
		for (let j = 1; j <= b.length; j++) {
			const substitute = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
			let least = Math.min(at(last, j) + 1, at(row, j - 1) + 1, substitute);
			if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, at(beforeLast, j - 2) + 1);
			row.push(least);
		}
		beforeLast = last;
		last = row;
	}
	return at(last, b.length);
}

function at(row: readonly number[], i: number): number {
	return row[i] ?? Number.POSITIVE_INFINITY;
}
