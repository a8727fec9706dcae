// SPDX-License-Identifier: Apache-2.0
// The ring builder.
#include "maglev.h"

#include <algorithm>
#include <vector>

namespace xdpilot {

namespace {

uint64_t RotateLeft(uint64_t x, int n) { return (x << n) | (x >> (64 - n)); }

uint64_t FinalMix(uint64_t k) {
	k ^= k >> 33;
	k *= 0xff51afd7ed558ccd;
	k ^= k >> 33;
	k *= 0xc4ceb9fe1a85ec53;
	return k ^ (k >> 33);
}

/** First half of MurmurHash3 x64 128 (Austin Appleby, public domain) of the 16-byte message (a, b). */
uint64_t Murmur(uint64_t a, uint64_t b, uint64_t seed) {
	constexpr uint64_t c1 = 0x87c37b91114253d5, c2 = 0x4cf5ad432745937f;
	uint64_t h1 = seed, h2 = seed;
	h1 ^= RotateLeft(a * c1, 31) * c2;
	h1 = (RotateLeft(h1, 27) + h2) * 5 + 0x52dce729;
	h2 ^= RotateLeft(b * c2, 33) * c1;
	h2 = (RotateLeft(h2, 31) + h1) * 5 + 0x38495ab5;
	h1 ^= 16;
	h2 ^= 16;
	h1 += h2;
	h2 += h1;
	return FinalMix(h1) + FinalMix(h2);
}

}  // namespace

bool IsPrime(uint32_t n) {
	if (n < 2) return false;
	for (uint64_t d = 2; d * d <= n; d++)
		if (n % d == 0) return false;
	return true;
}

Permutation PermutationOf(uint64_t hash, uint32_t ring_size) {
	return {static_cast<uint32_t>(Murmur(hash, 42, 0) % ring_size),
			static_cast<uint32_t>(Murmur(hash, 2718281828, 2307) % (ring_size - 1) + 1)};
}

void BuildRing(int version, const uint64_t *hashes, const uint32_t *weights, size_t count, uint16_t *ring,
			   uint32_t ring_size) {
	if (count == 1) {
		std::fill(ring, ring + ring_size, uint16_t{0});
		return;
	}
	std::vector<Permutation> permutations;
	for (size_t i = 0; i < count; i++) permutations.push_back(PermutationOf(hashes[i], ring_size));
	std::vector<uint32_t> next(count);
	std::vector<bool> taken(ring_size);
	std::vector<uint64_t> credit(count);
	const uint32_t most = *std::max_element(weights, weights + count);
	uint32_t filled = 0;
	for (bool first = true; filled < ring_size; first = false) {
		for (size_t i = 0; i < count && filled < ring_size; i++) {
			uint32_t turns = 1;
			if (version == 1) {
				turns = first ? weights[i] : 1;
			} else {
				credit[i] += weights[i];
				turns = credit[i] >= most;
				if (turns) credit[i] -= most;
			}
			for (; turns > 0 && filled < ring_size; turns--, filled++) {
				uint32_t slot;
				do slot = (permutations[i].offset + next[i]++ * permutations[i].skip) % ring_size;
				while (taken[slot]);
				taken[slot] = true;
				ring[slot] = static_cast<uint16_t>(i);
			}
		}
	}
}

}  // namespace xdpilot
