// SPDX-License-Identifier: Apache-2.0
// BpfObject: a BPF ELF file between open and load.
#pragma once
#include <bpf/libbpf.h>
#include <napi.h>

#include <string>
#include <utility>
#include <vector>

#include "handle.h"

namespace xdpilot {

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

	struct Shape {
		std::string name;
		uint32_t type, key_size, value_size, max_entries, flags;
		explicit Shape(const bpf_map *map);
		Napi::Object Describe(Napi::Env env) const;
	};
	struct Entry {
		std::string name;  // the ELF file's: reusing a map renames libbpf's
		bpf_map *map;
		std::vector<Shape> inner;  // one for a map-in-map
		bool inner_changed = false;
		Fd inner_template = Fd();  // must live until load
	};

	bool Usable(const Napi::CallbackInfo &info, const char *call) const;
	Entry *FindMap(const Napi::CallbackInfo &info, const char *call);
	bpf_program *FindProgram(const Napi::CallbackInfo &info, const char *call);
	Failure WriteRodata();
	Failure MakeTemplates();

	bpf_object *object_ = nullptr;
	bpf_map *rodata_map_ = nullptr;
	std::string path_;
	std::vector<Entry> maps_;
	Napi::Reference<Napi::Uint8Array> rodata_;  // JavaScript's copy, written back by load()
	bool loaded_ = false;
};

/** Takes libbpf's messages away from stderr; they reach JavaScript with the error they belong to. */
void CaptureLibbpfLog();

}  // namespace xdpilot
