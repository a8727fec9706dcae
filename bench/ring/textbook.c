/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maglev as the paper has it (Eisenbud et al., NSDI 2016, figure 3), with weights that add up, and the slot of a step
 * worked out when it is needed: what one writes first. The builder of native/maglev.cc is measured against it.
 */
#include <stdint.h>
#include <stdlib.h>

struct permutation {
	uint32_t offset, skip;
};

void textbook_ring(const struct permutation *permutations, const uint32_t *weights, size_t count, int32_t *ring, uint32_t size)
{
	uint32_t *next = calloc(count, sizeof(*next)), *credit = calloc(count, sizeof(*credit)), heaviest = 0, filled = 0;

	for (uint32_t slot = 0; slot < size; slot++)
		ring[slot] = -1;
	for (size_t i = 0; i < count; i++)
		if (weights[i] > heaviest)
			heaviest = weights[i];
	while (filled < size) {
		for (size_t i = 0; i < count && filled < size; i++) {
			const struct permutation *p = &permutations[i];
			uint32_t slot;

			credit[i] += weights[i];
			if (credit[i] < heaviest)
				continue;
			credit[i] -= heaviest;
			do
				slot = (p->offset + next[i]++ * p->skip) % size;
			while (ring[slot] >= 0);
			ring[slot] = (int32_t)i;
			filled++;
		}
	}
	free(next);
	free(credit);
}
