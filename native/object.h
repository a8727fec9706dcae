// SPDX-License-Identifier: Apache-2.0
// BpfObject: a BPF ELF file between open and load.
#pragma once
#include <bpf/libbpf.h>
#include <napi.h>

#include <string>
#include <utility>
#include <vector>

#include "error.h"

namespace xdpilot {

class BpfMap;

class BpfObject : public Napi::ObjectWrap<BpfObject> {
public:
	static Napi::Function Define(Napi::Env env);
	explicit BpfObject(const Napi::CallbackInfo &info);
	~BpfObject() override;

private:
	Napi::Value Maps(const Napi::CallbackInfo &info);
	Napi::Value Programs(const Napi::CallbackInfo &info);
	Napi::Value ResizeMap(const Napi::CallbackInfo &info);
	Napi::Value ReuseMap(const Napi::CallbackInfo &info);
	Napi::Value Rodata(const Napi::CallbackInfo &info);
	Napi::Value SetAutoload(const Napi::CallbackInfo &info);
	Napi::Value Load(const Napi::CallbackInfo &info);
	Napi::Value Map(const Napi::CallbackInfo &info);
	Napi::Value Program(const Napi::CallbackInfo &info);
	Napi::Value Close(const Napi::CallbackInfo &info);

	bool Usable(const Napi::CallbackInfo &info, const char *call) const;
	bpf_map *FindMap(const Napi::CallbackInfo &info, const char *call);
	bpf_program *FindProgram(const Napi::CallbackInfo &info, const char *call);
	Failure WriteRodata();

	bpf_object *object_ = nullptr;
	bpf_map *rodata_map_ = nullptr;
	std::string path_;
	std::vector<std::pair<std::string, bpf_map *>> maps_;  // by the ELF file's names: reusing a map renames libbpf's
	Napi::Reference<Napi::Uint8Array> rodata_;             // JavaScript's copy, written back by load()
};

/** Takes libbpf's messages away from stderr; they reach JavaScript with the error they belong to. */
void CaptureLibbpfLog();

}  // namespace xdpilot
