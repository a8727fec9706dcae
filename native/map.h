// SPDX-License-Identifier: Apache-2.0
// BpfMap: create, look up, update, delete, iterate, batch, mmap. Knows sizes only; the layout is the caller's.
#pragma once
#include <linux/bpf.h>

#include "handle.h"

namespace xdpilot {

class BpfMap : public Handle<BpfMap> {
public:
	static constexpr napi_type_tag kTag = {0x5a6c0fd1f7f84a51, 0x9d6f5f6e2b1d4c01};
	static constexpr const char *kClass = "BpfMap", *kKind = "bpf-map", *kProperty = "map";
	static Napi::FunctionReference &Constructor(Classes &classes) { return classes.map; }
	static Napi::Function Define(Napi::Env env);

	using Handle::Handle;
	Failure Opened();

private:
	static Napi::Value Create(const Napi::CallbackInfo &info);
	static Napi::Value CreateFilledAsync(const Napi::CallbackInfo &info);
	Napi::Value Info(const Napi::CallbackInfo &info);
	Napi::Value Lookup(const Napi::CallbackInfo &info);
	Napi::Value Update(const Napi::CallbackInfo &info);
	Napi::Value Delete(const Napi::CallbackInfo &info);
	Napi::Value NextKey(const Napi::CallbackInfo &info);
	Napi::Value UpdateBatchAsync(const Napi::CallbackInfo &info);
	Napi::Value UpdateParallelAsync(const Napi::CallbackInfo &info);
	Napi::Value UpdateAsync(const Napi::CallbackInfo &info);
	Napi::Value DeleteAsync(const Napi::CallbackInfo &info);
	Napi::Value Mmap(const Napi::CallbackInfo &info);

	bool ReadPairs(const Napi::CallbackInfo &info, struct MapUpdate *out);

	bpf_map_info info_ = {};
	size_t value_bytes_ =
		0;  // of one value as bpf(2) takes it: all CPUs of a per-CPU map, a descriptor of a map-in-map
};

}  // namespace xdpilot
