// SPDX-License-Identifier: Apache-2.0
// The ring builder. The definition is plain: member after member takes its turn, and in its turn the first free slot
// of its own permutation, (offset + next * skip) mod size, the sum wrapping at 2^32 as in Katran. Three ways of
// finding that slot give the same answer:
//   stepping   while many slots are free: add, subtract the size when above it, test a bit. No division.
//   choosing   when few are left, and a step would mostly meet taken ones: of each free slot, work out by the
//              modular inverse of `skip` when the member would reach it; the earliest is it.
//   literal    word for word, where the wrap at 2^32 bends a permutation: rings above 65537 slots, and in one of
//              65537 a member's very last step.
#include "maglev.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace xdpilot {

namespace {

constexpr uint32_t kLargestPlainRing = 65537;  // up to here offset + next * skip wraps at a member's last step only
constexpr uint32_t kChooseBelow = 128;  // free slots; measured, and at least 3 keeps `stepping` clear of the wrap
constexpr uint64_t kStepsPerSlot = 64;  // then a literal walk has met every slot that it ever will

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

/** x with a * x = 1 modulo the prime m: the extended Euclid. */
uint32_t Inverse(uint32_t a, uint32_t m) {
	int64_t x = 0, next_x = 1, r = m, next_r = a;
	while (next_r) {
		const int64_t quotient = r / next_r;
		x = std::exchange(next_x, x - quotient * next_x);
		r = std::exchange(next_r, r - quotient * next_r);
	}
	return static_cast<uint32_t>(x < 0 ? x + m : x);
}

/** Whose turn it is. */
class Turns {
public:
	Turns(const RingMembers &members, uint32_t ring_size) : weights_(members.weights), count_(members.count) {
		const auto [least, most] = std::minmax_element(weights_, weights_ + count_);
		first_round_ = members.version == 1;
		if (members.version == 2 && *least != *most) OrderInProportion(*most, ring_size);
	}

	size_t Next() {
		if (!order_.empty()) return order_[turn_++];
		if (more_ > 0) {
			more_--;
			return member_;
		}
		if (++member_ == count_) {
			member_ = 0;
			first_round_ = false;
		}
		if (first_round_) more_ = weights_[member_] - 1;
		return member_;
	}

private:
	/**
	 * Version 2 gives each member its weight in credit every round, and a turn for every `price`, the heaviest's
	 * weight: member i has its k-th turn in round ceil(k * price / weight[i]). A counting sort by round, stable in
	 * the members' order, costs the same for any weights, where playing the rounds would take a light member's
	 * weight in passes over all members for each of its turns.
	 */
	void OrderInProportion(uint32_t price, uint32_t ring_size) {
		uint64_t sum = 0;
		for (size_t i = 0; i < count_; i++) sum += weights_[i];
		// Each member has lost less than one turn to rounding, and the heaviest has one in every round.
		const uint64_t enough = (uint64_t{ring_size} + count_) * price / sum + 1;
		const uint32_t rounds = static_cast<uint32_t>(std::min<uint64_t>(enough, ring_size));
		std::vector<uint32_t> start(rounds + 2);
		for (size_t i = 0; i < count_; i++) EachRound(i, price, rounds, [&](uint32_t round) { start[round + 1]++; });
		for (uint32_t round = 1; round < start.size(); round++) start[round] += start[round - 1];
		order_.resize(start.back());
		for (size_t i = 0; i < count_; i++)
			EachRound(i, price, rounds, [&](uint32_t round) { order_[start[round]++] = static_cast<uint16_t>(i); });
	}

	/** Calls `visit` with each of member i's rounds, 1 to `rounds`, in ascending order. */
	template <typename Visit>
	void EachRound(size_t i, uint32_t price, uint32_t rounds, Visit visit) const {
		const uint32_t weight = weights_[i], whole = price / weight, part = price % weight;
		uint32_t round = whole, rest = part;  // k * price / weight, and its remainder
		while (round + (rest > 0) <= rounds) {
			visit(round + (rest > 0));
			round += whole;
			rest += part;
			if (rest >= weight) {
				rest -= weight;
				round++;
			}
		}
	}

	const uint32_t *weights_;
	size_t count_, member_ = SIZE_MAX;  // the next one is member 0
	uint32_t more_ = 0;
	bool first_round_;  // of version 1, where a weight counts
	std::vector<uint16_t> order_;
	size_t turn_ = 0;
};

class Builder {
public:
	Builder(const RingMembers &members, uint16_t *ring, uint32_t size)
		: turns_(members, size), ranks_(members.ranks), ring_(ring), size_(size), left_(size), taken_(size / 64 + 1) {
		walks_.reserve(members.count);
		for (size_t i = 0; i < members.count; i++) {
			const auto [offset, skip] = PermutationOf(members.hashes[i], size);
			walks_.push_back({offset, skip, offset, 0, 0});
		}
	}

	void Build() {
		if (size_ <= kLargestPlainRing) {
			Step();
			if (Choose()) return;
			for (Walk &walk : walks_) walk.next = Steps(walk, walk.at);
		}
		Literal();
	}

private:
	struct Walk {
		uint32_t offset, skip;
		uint32_t at;       // stepping, choosing: the slot to try next
		uint32_t inverse;  // of skip; 0 = not worked out yet
		uint64_t next;     // literal: steps taken
	};

	bool IsTaken(uint32_t slot) const { return taken_[slot >> 6] >> (slot & 63) & 1; }

	void Take(uint32_t slot, size_t member) {
		taken_[slot >> 6] |= uint64_t{1} << (slot & 63);
		ring_[slot] = ranks_ ? ranks_[member] : static_cast<uint16_t>(member);
		left_--;
	}

	uint32_t After(uint32_t slot, uint32_t skip) const {
		slot += skip;
		return slot >= size_ ? slot - size_ : slot;
	}

	/** Steps from a walk's offset to `slot`. */
	uint32_t Steps(Walk &walk, uint32_t slot) const {
		if (!walk.inverse) walk.inverse = Inverse(walk.skip, size_);
		return static_cast<uint32_t>(uint64_t{slot + size_ - walk.offset} * walk.inverse % size_);
	}

	void Step() {
		while (left_ > kChooseBelow) {
			const size_t member = turns_.Next();
			Walk &walk = walks_[member];
			uint32_t slot = walk.at;
			while (IsTaken(slot)) slot = After(slot, walk.skip);
			Take(slot, member);
			walk.at = After(slot, walk.skip);
		}
	}

	/** False when a member's next free slot lies beyond the wrap; it is its turn again. */
	bool Choose() {
		std::vector<uint32_t> free;
		for (uint32_t slot = 0; slot < size_; slot++)
			if (!IsTaken(slot)) free.push_back(slot);
		while (left_ > 0) {
			const size_t member = turns_.Next();
			Walk &walk = walks_[member];
			uint32_t *best = nullptr;
			uint32_t steps = UINT32_MAX;
			for (uint32_t &slot : free) {
				const uint32_t n = Steps(walk, slot);
				if (n < steps) steps = n, best = &slot;
			}
			if (walk.offset + uint64_t{steps} * walk.skip > UINT32_MAX) {
				pending_ = member;
				return false;
			}
			const uint32_t slot = std::exchange(*best, free.back());
			free.pop_back();
			Take(slot, member);
			walk.at = After(slot, walk.skip);
		}
		return true;
	}

	void Literal() {
		while (left_ > 0) {
			const size_t member = pending_ == SIZE_MAX ? turns_.Next() : std::exchange(pending_, SIZE_MAX);
			Take(LiteralSlot(walks_[member]), member);
		}
	}

	uint32_t LiteralSlot(Walk &walk) const {
		while (walk.next < kStepsPerSlot * size_) {
			const uint32_t slot = (walk.offset + static_cast<uint32_t>(walk.next++) * walk.skip) % size_;
			if (!IsTaken(slot)) return slot;
		}
		uint32_t slot = 0;
		while (IsTaken(slot)) slot++;
		return slot;
	}

	Turns turns_;
	const uint16_t *ranks_;
	uint16_t *ring_;
	uint32_t size_, left_;
	size_t pending_ = SIZE_MAX;
	std::vector<uint64_t> taken_;
	std::vector<Walk> walks_;
};

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

void BuildRing(const RingMembers &members, uint16_t *ring, uint32_t ring_size) {
	// One member has every slot, whatever its walk.
	if (members.count == 1)
		std::fill(ring, ring + ring_size, members.ranks ? members.ranks[0] : uint16_t{0});
	else
		Builder(members, ring, ring_size).Build();
}

}  // namespace xdpilot
