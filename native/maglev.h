// SPDX-License-Identifier: Apache-2.0
// Maglev rings (Eisenbud et al., NSDI 2016, 3.4) in the two weighted forms of Katran: a pure function of hashes,
// weights and size. Knows nothing of Node or BPF, so that a fuzzer or a benchmark can link it alone.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace xdpilot {

constexpr size_t kMaxRingMembers = 65535;

bool IsPrime(uint32_t n);

/** First slot and stride of a member's permutation of the slots. */
struct Permutation {
	uint32_t offset, skip;
};
Permutation PermutationOf(uint64_t hash, uint32_t ring_size);

/**
 * Writes to each of ring[0..ring_size) the index of its member. Members take turns in the order given.
 * version 1: `weight` turns in the first round, one in each later; version 2: turns in proportion to the weights.
 * Requires ring_size prime, 1 <= count <= kMaxRingMembers, every weight from 1 to 2^31.
 */
void BuildRing(int version, const uint64_t *hashes, const uint32_t *weights, size_t count, uint16_t *ring,
			   uint32_t ring_size);

}  // namespace xdpilot
