// SPDX-License-Identifier: Apache-2.0
// Scans of an array of 16-byte entries that packets read and write at the same time. Only word 1 is touched, by
// compare-and-exchange: an entry that a packet replaced meanwhile is looked at again, never lost. 0 = empty.
#include <algorithm>
#include <vector>

#include "arguments.h"
#include "exports.h"
#include "job.h"

namespace xdpilot {

namespace {

struct Entry {
	uint64_t word[2];
};

constexpr int kTimeShift = 40, kBackendShift = 16;
constexpr uint32_t kTimeMask = 0xffffff, kBackendMask = 0x7fffff;
constexpr uint32_t kAheadOfUs = 4096;  // packets' clock moves on while we scan: entries this far ahead are fresh

/** Holds the memory of a table while a worker scans it. */
struct Table {
	Napi::ObjectReference keep;
	Entry *entries = nullptr;
	size_t count = 0;
	Failure failure;

	bool Read(Napi::Value value) {
		if (!value.IsArrayBuffer()) return ThrowType(value.Env(), "table must be an ArrayBuffer"), false;
		Napi::ArrayBuffer buffer = value.As<Napi::ArrayBuffer>();
		if (buffer.ByteLength() % sizeof(Entry))
			return ThrowType(value.Env(), "table must be a multiple of 16 bytes"), false;
		keep = Napi::Persistent(static_cast<Napi::Object>(buffer));
		entries = static_cast<Entry *>(buffer.Data());
		count = buffer.ByteLength() / sizeof(Entry);
		return true;
	}

	template <typename Match>
	size_t Clear(Match match) {
		size_t cleared = 0;
		for (size_t i = 0; i < count; i++) {
			uint64_t *word = &entries[i].word[1];
			uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
			while (seen && match(seen)) {
				if (!__atomic_compare_exchange_n(word, &seen, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
				cleared++;
				break;
			}
		}
		return cleared;
	}
};

struct Sweep : Table {
	uint64_t mask = 0;
	std::vector<uint64_t> values;
	size_t cleared = 0;

	void Run() {
		cleared =
			Clear([this](uint64_t word) { return std::binary_search(values.begin(), values.end(), word & mask); });
	}
	Napi::Value Result(Napi::Env env) { return Napi::Number::New(env, static_cast<double>(cleared)); }
};

struct Expire : Table {
	uint32_t now = 0, max_age = 0;
	size_t cleared = 0;

	void Run() {
		cleared = Clear([this](uint64_t word) {
			const uint32_t age = (now - static_cast<uint32_t>(word >> kTimeShift)) & kTimeMask;
			return age > max_age && age <= kTimeMask - kAheadOfUs;
		});
	}
	Napi::Value Result(Napi::Env env) { return Napi::Number::New(env, static_cast<double>(cleared)); }
};

struct CountFlows : Table {
	std::vector<uint32_t> counts;

	void Run() {
		for (size_t i = 0; i < count; i++) {
			const uint64_t word = __atomic_load_n(&entries[i].word[1], __ATOMIC_RELAXED);
			const size_t backend = (word >> kBackendShift) & kBackendMask;
			if (word && backend < counts.size()) counts[backend]++;
		}
	}
	Napi::Value Result(Napi::Env env) {
		Napi::Uint32Array out = Napi::Uint32Array::New(env, counts.size());
		if (!out.IsEmpty()) std::copy(counts.begin(), counts.end(), out.Data());
		return out;
	}
};

Napi::Value SweepFlowsAsync(const Napi::CallbackInfo &info) {
	Sweep sweep;
	if (!sweep.Read(info[0]) || !ReadU64(info[1], "mask", &sweep.mask) || !ReadU64s(info[2], "values", &sweep.values))
		return Rejected(info.Env());
	std::sort(sweep.values.begin(), sweep.values.end());
	return Job<Sweep>::Start(info.Env(), std::move(sweep));
}

Napi::Value ExpireFlowsAsync(const Napi::CallbackInfo &info) {
	Expire expire;
	if (!expire.Read(info[0]) || !ReadU32(info[1], "now", &expire.now) || !ReadU32(info[2], "maxAge", &expire.max_age))
		return Rejected(info.Env());
	return Job<Expire>::Start(info.Env(), std::move(expire));
}

Napi::Value CountFlowsAsync(const Napi::CallbackInfo &info) {
	CountFlows scan;
	uint32_t size;
	if (!scan.Read(info[0]) || !ReadU32(info[1], "size", &size)) return Rejected(info.Env());
	if (size > kBackendMask + 1) {
		ThrowType(info.Env(), "size must be at most 8388608");
		return Rejected(info.Env());
	}
	scan.counts.resize(size);
	return Job<CountFlows>::Start(info.Env(), std::move(scan));
}

}  // namespace

void DefineFlowScan(Napi::Env env, Napi::Object exports) {
	exports.Set("sweepFlowsAsync", Napi::Function::New<SweepFlowsAsync>(env, "sweepFlowsAsync"));
	exports.Set("expireFlowsAsync", Napi::Function::New<ExpireFlowsAsync>(env, "expireFlowsAsync"));
	exports.Set("countFlowsAsync", Napi::Function::New<CountFlowsAsync>(env, "countFlowsAsync"));
}

}  // namespace xdpilot
