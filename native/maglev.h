// SPDX-License-Identifier: Apache-2.0
// Maglev rings (Eisenbud et al., NSDI 2016, 3.4) in the two weighted forms of Katran: a pure function of hashes,
// weights and size. Knows nothing of Node or BPF, so that a fuzzer or a benchmark can link it alone.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace xdpilot {

constexpr size_t kMaxRingMembers = 65535;
constexpr uint32_t kMaxWeight = 65535;

bool IsPrime(uint32_t n);

/** First slot and stride of a member's permutation of the slots. */
struct Permutation {
	uint32_t offset, skip;
};
Permutation PermutationOf(uint64_t hash, uint32_t ring_size);

struct RingMembers {
	int version;   // 1: `weight` turns in the first round, one in each later; 2: turns in proportion
	size_t count;  // 1 to kMaxRingMembers; members take turns in the order given
	const uint64_t *hashes;
	const uint32_t *weights;  // each 1 to kMaxWeight
	const uint16_t *ranks;    // what a slot holds for a member; its index where this is nullptr
};

/** Fills ring[0..ring_size); ring_size must be prime and above 2. */
void BuildRing(const RingMembers &members, uint16_t *ring, uint32_t ring_size);

}  // namespace xdpilot
