// SPDX-License-Identifier: Apache-2.0
// Between JavaScript and maglev.h: checks, copies, and spreads many rings over several of libuv's threads.
#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "arguments.h"
#include "exports.h"
#include "job.h"
#include "maglev.h"

namespace xdpilot {

namespace {

struct Ring {
	uint32_t version = 0;
	std::vector<uint64_t> hashes;
	std::vector<uint32_t> weights;
	std::vector<uint16_t> ranks;  // empty: indexes
	std::unique_ptr<uint16_t[]> slots;

	void Build(uint32_t size) {
		slots.reset(new uint16_t[size]);
		BuildRing({static_cast<int>(version), hashes.size(), hashes.data(), weights.data(),
				   ranks.empty() ? nullptr : ranks.data()},
				  slots.get(), size);
	}

	/** Hands the memory over: no copy of 128 KiB on the JavaScript thread. */
	Napi::Value Take(Napi::Env env, uint32_t size) {
		auto memory = Napi::ArrayBuffer::New(env, slots.get(), size * sizeof(uint16_t),
											 [](Napi::Env, void *data) { delete[] static_cast<uint16_t *>(data); });
		if (memory.IsEmpty()) return env.Undefined();  // the environment is being ended
		slots.release();
		return Napi::Uint16Array::New(env, size, memory, 0);
	}
};

bool ReadRing(Napi::Value value, Ring *out) {
	Napi::Env env = value.Env();
	if (!value.IsObject()) return ThrowType(env, "ring must be an object"), false;
	Napi::Object ring = value.As<Napi::Object>();
	const Napi::Value hashes = ring.Get("hashes"), weights = ring.Get("weights");
	if (!ReadU32(ring.Get("version"), "version", &out->version)) return false;
	if (out->version != 1 && out->version != 2) return ThrowType(env, "version must be 1 or 2"), false;
	if (!ReadU64s(hashes, "hashes", &out->hashes)) return false;
	if (!weights.IsTypedArray() || weights.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
		return ThrowType(env, "weights must be a Uint32Array"), false;
	const auto w = weights.As<Napi::Uint32Array>();
	const size_t count = out->hashes.size();
	if (count == 0 || count > kMaxRingMembers) return ThrowType(env, "a ring has 1 to 65535 members"), false;
	if (w.ElementLength() != count) return ThrowType(env, "weights must be as many as hashes"), false;
	out->weights.assign(w.Data(), w.Data() + count);
	if (const Napi::Value ranks = ring.Get("ranks"); !ranks.IsUndefined()) {
		if (!ranks.IsTypedArray() || ranks.As<Napi::TypedArray>().TypedArrayType() != napi_uint16_array ||
			ranks.As<Napi::TypedArray>().ElementLength() != count)
			return ThrowType(env, "ranks must be a Uint16Array with as many elements as hashes"), false;
		const uint16_t *data = ranks.As<Napi::Uint16Array>().Data();
		out->ranks.assign(data, data + count);
	}
	const auto [least, most] = std::minmax_element(out->weights.begin(), out->weights.end());
	if (*least < 1 || *most > kMaxWeight) return ThrowType(env, "a weight is from 1 to 65535"), false;
	return true;
}

bool ReadSize(Napi::Value value, uint32_t *out) {
	if (!ReadU32(value, "ringSize", out)) return false;
	// Where the size is not prime a stride can miss slots, and the builder would never end.
	return IsPrime(*out) && *out > 2 ? true : (ThrowType(value.Env(), "ringSize must be a prime above 2"), false);
}

struct Rings {
	std::vector<Ring> rings;
	uint32_t size = 0;
	Failure failure;
	std::unique_ptr<std::atomic<size_t>> next = std::make_unique<std::atomic<size_t>>(0);

	void Run() {
		for (size_t i; (i = (*next)++) < rings.size();) rings[i].Build(size);
	}

	Napi::Value Result(Napi::Env env) {
		Napi::Array out = Napi::Array::New(env, rings.size());
		for (uint32_t i = 0; i < rings.size(); i++) out.Set(i, rings[i].Take(env, size));
		return out;
	}
};

Napi::Value BuildRingsAsync(const Napi::CallbackInfo &info) {
	Rings work;
	if (!info[0].IsArray()) {
		ThrowType(info.Env(), "rings must be an array");
		return Rejected(info.Env());
	}
	if (!ReadSize(info[1], &work.size)) return Rejected(info.Env());
	const Napi::Array rings = info[0].As<Napi::Array>();
	work.rings.resize(rings.Length());
	for (uint32_t i = 0; i < rings.Length(); i++)
		if (!ReadRing(rings.Get(i), &work.rings[i])) return Rejected(info.Env());
	const size_t width = PoolWidth(work.rings.size());
	return Job<Rings>::Start(info.Env(), std::move(work), width);
}

Napi::Value BuildOne(const Napi::CallbackInfo &info) {
	Ring ring;
	uint32_t size;
	if (!ReadRing(info[0], &ring) || !ReadSize(info[1], &size)) return info.Env().Undefined();
	ring.Build(size);
	return ring.Take(info.Env(), size);
}

}  // namespace

void DefineRing(Napi::Env env, Napi::Object exports) {
	exports.Set("buildRingsAsync", Napi::Function::New<BuildRingsAsync>(env, "buildRingsAsync"));
	exports.Set("buildRing", Napi::Function::New<BuildOne>(env, "buildRing"));
}

}  // namespace xdpilot
