// SPDX-License-Identifier: Apache-2.0
// Times native/maglev.cc against the textbook loop in one process, turn and turn about, and compares every slot.
// usage: harness MEMBERS equal|mixed|heavy ROUNDS; prints a line of two times in microseconds for each round.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "maglev.h"

extern "C" {
struct permutation {
	uint32_t offset, skip;
};
void textbook_ring(const permutation *permutations, const uint32_t *weights, size_t count, int32_t *ring,
				   uint32_t size);
}

namespace {

constexpr uint32_t kSize = 65537;
using Clock = std::chrono::steady_clock;

template <typename F>
double Microseconds(F work) {
	const auto start = Clock::now();
	work();
	return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/** splitmix64: hashes that look like those of addresses. */
uint64_t Hash(uint64_t n) {
	uint64_t z = (n + 1) * 0x9e3779b97f4a7c15;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

}  // namespace

int main(int argc, char **argv) {
	if (argc != 4) return 64;
	const size_t count = strtoul(argv[1], nullptr, 10);
	const std::string mode = argv[2];
	std::vector<uint64_t> hashes(count);
	std::vector<uint32_t> weights(count, 1);
	for (size_t i = 0; i < count; i++) {
		hashes[i] = Hash(i);
		if (mode == "mixed") weights[i] = static_cast<uint32_t>(1 + i % 10);
	}
	if (mode == "heavy") weights[0] = 65535;
	std::vector<int32_t> textbook(kSize);
	std::vector<uint16_t> ring(kSize);
	const auto slow = [&] {
		std::vector<permutation> permutations;
		for (const uint64_t hash : hashes) {
			const xdpilot::Permutation p = xdpilot::PermutationOf(hash, kSize);
			permutations.push_back({p.offset, p.skip});
		}
		textbook_ring(permutations.data(), weights.data(), count, textbook.data(), kSize);
	};
	const auto fast = [&] {
		xdpilot::BuildRing({2, count, hashes.data(), weights.data(), nullptr}, ring.data(), kSize);
	};
	for (int round = 0; round < atoi(argv[3]); round++) {
		double slow_us = 0, fast_us = 0;
		if (round % 2) slow_us = Microseconds(slow);
		fast_us = Microseconds(fast);
		if (round % 2 == 0) slow_us = Microseconds(slow);
		for (uint32_t slot = 0; slot < kSize; slot++)
			if (textbook[slot] != ring[slot]) return fprintf(stderr, "slot %u differs\n", slot), 1;
		printf("%.1f %.1f\n", slow_us, fast_us);
	}
	return 0;
}
