// SPDX-License-Identifier: Apache-2.0
// Spans of time as people read them: "0.2s", "42s", "3m12s", "5h03m", "6d04h".

/** Two units at most, rounded down; tenths below ten seconds. */
export function formatAge(seconds: number): string {
	const s = Math.max(0, seconds);
	if (s < 10) return `${Math.floor(s * 10) / 10}s`;
	if (s < 60) return `${Math.floor(s)}s`;
	const [big, small, per] = s < 3600 ? (['m', 's', 60] as const) : s < 86_400 ? (['h', 'm', 3600] as const) : (['d', 'h', 86_400] as const);
	const rest = Math.floor((s % per) / (per === 60 ? 1 : per === 3600 ? 60 : 3600));
	return `${Math.floor(s / per)}${big}${String(rest).padStart(2, '0')}${small}`;
}
