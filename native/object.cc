// SPDX-License-Identifier: Apache-2.0
// BpfObject. libbpf's own messages, the verifier's log among them, are kept per thread and handed out with the error.
#include "object.h"

#include <errno.h>
#include <string.h>

#include "map.h"
#include "program.h"

namespace xdpilot {

namespace {

thread_local std::string *log_sink = nullptr;

int KeepMessage(libbpf_print_level level, const char *format, va_list args) {
	if (!log_sink || level == LIBBPF_DEBUG) return 0;
	va_list again;
	va_copy(again, args);
	const int length = vsnprintf(nullptr, 0, format, again);
	va_end(again);
	if (length <= 0) return 0;
	const size_t at = log_sink->size();
	log_sink->resize(at + static_cast<size_t>(length) + 1);
	vsnprintf(&(*log_sink)[at], static_cast<size_t>(length) + 1, format, args);
	log_sink->pop_back();
	return length;
}

struct LogScope {
	std::string text;
	LogScope() { log_sink = &text; }
	~LogScope() { log_sink = nullptr; }
};

/** The name between quotes after `before` in libbpf's messages, where there is one. */
std::string Quoted(const std::string &text, const std::string &before, const std::string &after) {
	const size_t end = text.find("'" + after);
	const size_t start = end == std::string::npos ? end : text.rfind(before + "'", end);
	if (start == std::string::npos) return "";
	return text.substr(start + before.size() + 1, end - start - before.size() - 1);
}

bool EndsWith(const std::string &text, const std::string &end) {
	return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

void CaptureLibbpfLog() { libbpf_set_print(KeepMessage); }

BpfObject::Shape::Shape(const bpf_map *map)
	: name(bpf_map__name(map)),
	  type(bpf_map__type(map)),
	  key_size(bpf_map__key_size(map)),
	  value_size(bpf_map__value_size(map)),
	  max_entries(bpf_map__max_entries(map)),
	  flags(bpf_map__map_flags(map)) {}

Napi::Object BpfObject::Shape::Describe(Napi::Env env) const {
	Napi::Object out = Napi::Object::New(env);
	out.Set("name", name);
	out.Set("type", type);
	out.Set("keySize", key_size);
	out.Set("valueSize", value_size);
	out.Set("maxEntries", max_entries);
	out.Set("flags", flags);
	return out;
}

Napi::Function BpfObject::Define(Napi::Env env) {
	Napi::Function constructor = DefineClass(
		env, "BpfObject",
		{InstanceAccessor("maps", &BpfObject::Maps, nullptr),
		 InstanceAccessor("programs", &BpfObject::Programs, nullptr),
		 InstanceMethod("resizeMap", &BpfObject::ResizeMap), InstanceMethod("reuseMap", &BpfObject::ReuseMap),
		 InstanceMethod("rodata", &BpfObject::Rodata), InstanceMethod("setAutoload", &BpfObject::SetAutoload),
		 InstanceMethod("load", &BpfObject::Load), InstanceMethod("map", &BpfObject::Map),
		 InstanceMethod("program", &BpfObject::Program), InstanceMethod("close", &BpfObject::Close)});
	constructor.Set("open", Napi::Function::New(
								env,
								[](const Napi::CallbackInfo &info) -> Napi::Value {
									return info.This().As<Napi::Function>().New({info[0]});
								},
								"open"));
	return constructor;
}

BpfObject::BpfObject(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfObject>(info) {
	if (!ReadString(info[0], "path", &path_)) return;
	LogScope log;
	object_ = bpf_object__open_file(path_.c_str(), nullptr);
	if (!object_) {
		Throw(info.Env(), {errno, "bpf_object__open", "path", path_, log.text, -1});
		return;
	}
	bpf_map *map;
	bpf_object__for_each_map(map, object_) {
		maps_.push_back({bpf_map__name(map), map, {}});
		const bpf_map_type type = bpf_map__type(map);
		if (type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS)
			if (const bpf_map *inner = bpf_map__inner_map(map)) maps_.back().inner.emplace_back(inner);
		if (bpf_map__is_internal(map) && EndsWith(maps_.back().name, ".rodata")) rodata_map_ = map;
	}
}

BpfObject::~BpfObject() { bpf_object__close(object_); }

bool BpfObject::Usable(const Napi::CallbackInfo &info, const char *call) const {
	if (object_) return true;
	Throw(info.Env(), {EBADF, call, "path", path_, "", -1});
	return false;
}

BpfObject::Entry *BpfObject::FindMap(const Napi::CallbackInfo &info, const char *call) {
	std::string name;
	if (!Usable(info, call) || !ReadString(info[0], "name", &name)) return nullptr;
	for (Entry &entry : maps_)
		if (entry.name == name) return &entry;
	Throw(info.Env(), {ENOENT, call, "map", name, "", -1});
	return nullptr;
}

bpf_program *BpfObject::FindProgram(const Napi::CallbackInfo &info, const char *call) {
	std::string name;
	if (!Usable(info, call) || !ReadString(info[0], "name", &name)) return nullptr;
	bpf_program *program = bpf_object__find_program_by_name(object_, name.c_str());
	if (!program) Throw(info.Env(), {ENOENT, call, "program", name, "", -1});
	return program;
}

Napi::Value BpfObject::Maps(const Napi::CallbackInfo &info) {
	if (!Usable(info, "maps")) return info.Env().Undefined();
	Napi::Array out = Napi::Array::New(info.Env(), maps_.size());
	for (uint32_t i = 0; i < maps_.size(); i++) {
		Napi::Object one = Shape(maps_[i].map).Describe(info.Env());
		one.Set("name", maps_[i].name);
		for (const Shape &inner : maps_[i].inner) one.Set("inner", inner.Describe(info.Env()));
		out.Set(i, one);
	}
	return out;
}

Napi::Value BpfObject::Programs(const Napi::CallbackInfo &info) {
	if (!Usable(info, "programs")) return info.Env().Undefined();
	Napi::Array out = Napi::Array::New(info.Env());
	bpf_program *program;
	bpf_object__for_each_program(program, object_) {
		Napi::Object one = Napi::Object::New(info.Env());
		one.Set("name", bpf_program__name(program));
		one.Set("section", bpf_program__section_name(program));
		out.Set(out.Length(), one);
	}
	return out;
}

Napi::Value BpfObject::ResizeMap(const Napi::CallbackInfo &info) {
	constexpr const char *kCall = "resizeMap";
	Napi::Env env = info.Env();
	uint32_t max_entries = 0, value_size = 0, inner_max_entries = 0, inner_value_size = 0;
	Entry *entry = FindMap(info, kCall);
	if (!entry || !ReadOption(info[1], "maxEntries", &max_entries) || !ReadOption(info[1], "valueSize", &value_size) ||
		!ReadOption(info[1], "innerMaxEntries", &inner_max_entries) ||
		!ReadOption(info[1], "innerValueSize", &inner_value_size))
		return env.Undefined();
	const bool inner = inner_max_entries || inner_value_size;
	int result = loaded_ ? -EBUSY : inner && entry->inner.empty() ? -EINVAL : 0;
	if (!result && max_entries) result = bpf_map__set_max_entries(entry->map, max_entries);
	if (!result && value_size) result = bpf_map__set_value_size(entry->map, value_size);
	if (result) return Throw(env, {-result, kCall, "map", entry->name, "", -1});
	if (inner) {
		if (inner_max_entries) entry->inner[0].max_entries = inner_max_entries;
		if (inner_value_size) entry->inner[0].value_size = inner_value_size;
		entry->inner_changed = true;
	}
	return env.Undefined();
}

Napi::Value BpfObject::ReuseMap(const Napi::CallbackInfo &info) {
	Entry *entry = FindMap(info, "reuseMap");
	const BpfMap *existing = entry ? BpfMap::From(info[1], "map") : nullptr;
	if (!existing || !existing->Usable(info, "reuseMap")) return info.Env().Undefined();
	const int result = loaded_ ? -EBUSY : bpf_map__reuse_fd(entry->map, existing->fd());
	return result ? Throw(info.Env(), existing->Fail(-result, "reuseMap")) : info.Env().Undefined();
}

Napi::Value BpfObject::Rodata(const Napi::CallbackInfo &info) {
	if (!Usable(info, "rodata")) return info.Env().Undefined();
	if (!rodata_.IsEmpty()) return rodata_.Value();
	size_t size = 0;
	const void *initial = rodata_map_ ? bpf_map__initial_value(rodata_map_, &size) : nullptr;
	if (!initial) return Throw(info.Env(), {ENOENT, "rodata", "path", path_, "", -1});
	const Napi::Value copy = CopyOut(info.Env(), initial, size);
	if (copy.IsTypedArray()) rodata_ = Napi::Persistent(copy.As<Napi::Uint8Array>());
	return copy;
}

Napi::Value BpfObject::SetAutoload(const Napi::CallbackInfo &info) {
	bpf_program *program = FindProgram(info, "setAutoload");
	if (!program) return info.Env().Undefined();
	if (!info[1].IsBoolean()) return ThrowType(info.Env(), "load must be a boolean");
	const int result = bpf_program__set_autoload(program, info[1].As<Napi::Boolean>().Value());
	if (result) return Throw(info.Env(), {-result, "setAutoload", "program", bpf_program__name(program), "", -1});
	return info.Env().Undefined();
}

Failure BpfObject::WriteRodata() {
	if (rodata_.IsEmpty()) return {};
	const Napi::Uint8Array bytes = rodata_.Value();
	const int result = bpf_map__set_initial_value(rodata_map_, bytes.Data(), bytes.ByteLength());
	return result ? Failure{-result, "rodata", "path", path_, "", -1} : Failure{};
}

/** libbpf's setters crash on the template of a map-in-map (it has no object), so a changed one is made here. */
Failure BpfObject::MakeTemplates() {
	for (Entry &entry : maps_) {
		if (!entry.inner_changed) continue;
		const Shape &inner = entry.inner[0];
		LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = inner.flags);
		entry.inner_template = Fd(bpf_map_create(static_cast<bpf_map_type>(inner.type), nullptr, inner.key_size,
												 inner.value_size, inner.max_entries, &opts));
		if (entry.inner_template.get() < 0) return {errno, "bpf(BPF_MAP_CREATE)", "map", inner.name, "", -1};
		if (const int result = bpf_map__set_inner_map_fd(entry.map, entry.inner_template.get()))
			return {-result, "bpf_map__set_inner_map_fd", "map", entry.name, "", -1};
	}
	return {};
}

Napi::Value BpfObject::Load(const Napi::CallbackInfo &info) {
	if (!Usable(info, "bpf(BPF_PROG_LOAD)")) return info.Env().Undefined();
	Napi::HandleScope scope(info.Env());
	if (loaded_) return Throw(info.Env(), {EBUSY, "bpf(BPF_PROG_LOAD)", "path", path_, "", -1});
	if (const Failure failure = WriteRodata(); failure.err) return Throw(info.Env(), failure);
	if (const Failure failure = MakeTemplates(); failure.err) return Throw(info.Env(), failure);
	LogScope log;
	loaded_ = true;  // libbpf tries once only
	const int result = bpf_object__load(object_);
	for (Entry &entry : maps_) entry.inner_template.Close();
	if (result == 0) return info.Env().Undefined();
	const std::string map = Quoted(log.text, "map ", ": failed to create");
	const std::string program = Quoted(log.text, "prog ", ": BPF program load failed");
	if (program.empty() && !map.empty())
		return Throw(info.Env(), {-result, "bpf(BPF_MAP_CREATE)", "map", map, log.text, -1});
	const char *kind = program.empty() ? "path" : "program";
	return Throw(info.Env(), {-result, "bpf(BPF_PROG_LOAD)", kind, program.empty() ? path_ : program, log.text, -1});
}

Napi::Value BpfObject::Map(const Napi::CallbackInfo &info) {
	const Entry *entry = FindMap(info, "map");
	if (!entry) return info.Env().Undefined();
	Fd fd(fcntl(bpf_map__fd(entry->map), F_DUPFD_CLOEXEC, 0));
	if (fd.get() < 0) return Throw(info.Env(), {errno, "map", "map", entry->name, "", -1});
	return BpfMap::Wrap(info.Env(), std::move(fd));
}

Napi::Value BpfObject::Program(const Napi::CallbackInfo &info) {
	bpf_program *program = FindProgram(info, "program");
	if (!program) return info.Env().Undefined();
	Fd fd(fcntl(bpf_program__fd(program), F_DUPFD_CLOEXEC, 0));
	if (fd.get() < 0) return Throw(info.Env(), {errno, "program", "program", bpf_program__name(program), "", -1});
	return BpfProgram::Wrap(info.Env(), std::move(fd));
}

Napi::Value BpfObject::Close(const Napi::CallbackInfo &info) {
	bpf_object__close(object_);
	object_ = nullptr;
	rodata_map_ = nullptr;
	maps_.clear();
	rodata_.Reset();
	return info.Env().Undefined();
}

}  // namespace xdpilot
