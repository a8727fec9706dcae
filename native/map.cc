// SPDX-License-Identifier: Apache-2.0
// BpfMap. Synchronous calls are short system calls; those that may wait for an RCU grace period have an Async form,
// which copies its input and duplicates the descriptor, so that neither a later write nor a close() can reach it.
#include "map.h"

#include <bpf/libbpf.h>
#include <sys/mman.h>

#include <algorithm>

#include "job.h"
#include "map_work.h"

namespace xdpilot {

namespace {

constexpr uint32_t kMaxThreads = 256;

size_t RoundUp8(size_t n) { return (n + 7) & ~size_t{7}; }

bool IsMapInMap(uint32_t type) { return type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS; }

bool IsPerCpu(uint32_t type) {
	return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH ||
		   type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

}  // namespace

Napi::Function BpfMap::Define(Napi::Env env) {
	return DefineClass(
		env, kClass,
		{StaticMethod("create", &BpfMap::Create), StaticMethod("createFilledAsync", &BpfMap::CreateFilledAsync),
		 StaticMethod("open", &BpfMap::Open), InstanceAccessor("fd", &BpfMap::GetFd, nullptr),
		 InstanceMethod("info", &BpfMap::Info), InstanceMethod("lookup", &BpfMap::Lookup),
		 InstanceMethod("update", &BpfMap::Update), InstanceMethod("delete", &BpfMap::Delete),
		 InstanceMethod("nextKey", &BpfMap::NextKey), InstanceMethod("updateBatchAsync", &BpfMap::UpdateBatchAsync),
		 InstanceMethod("updateParallelAsync", &BpfMap::UpdateParallelAsync),
		 InstanceMethod("updateAsync", &BpfMap::UpdateAsync), InstanceMethod("deleteAsync", &BpfMap::DeleteAsync),
		 InstanceMethod("mmap", &BpfMap::Mmap), InstanceMethod("pin", &BpfMap::Pin),
		 InstanceMethod("close", &BpfMap::Close)});
}

Failure BpfMap::Opened() {
	uint32_t size = sizeof(info_);
	if (bpf_obj_get_info_by_fd(fd(), &info_, &size)) return Fail(errno, "bpf(BPF_OBJ_GET_INFO_BY_FD)");
	name_ = info_.name;
	value_bytes_ = info_.value_size;
	if (IsMapInMap(info_.type)) value_bytes_ = sizeof(uint32_t);
	if (IsPerCpu(info_.type)) {
		const int cpus = libbpf_num_possible_cpus();
		if (cpus < 0) return Fail(-cpus, "/sys/devices/system/cpu/possible");
		value_bytes_ = RoundUp8(info_.value_size) * static_cast<size_t>(cpus);
	}
	return {};
}

Napi::Value BpfMap::Create(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	MapSpec spec;
	int inner = 0;
	if (!spec.Read(info[0])) return env.Undefined();
	if (const Napi::Value given = info[0].As<Napi::Object>().Get("inner"); !given.IsUndefined()) {
		const BpfMap *map = From(given, "inner");
		if (!map || !map->Usable(info, "bpf(BPF_MAP_CREATE)")) return env.Undefined();
		inner = map->fd();
	}
	Fd fd = spec.Create(inner);
	if (fd.get() < 0) return Throw(env, {errno, "bpf(BPF_MAP_CREATE)", "map", spec.name, "", -1});
	return Wrap(env, std::move(fd));
}

Napi::Value BpfMap::CreateFilledAsync(const Napi::CallbackInfo &info) {
	MapFill work;
	Bytes values;
	if (!work.spec.Read(info[0]) || !ReadBytes(info[1], "values", &values)) return Rejected(info.Env());
	const size_t size = work.spec.value_size;
	if (size == 0 || values.size % size || work.spec.type != BPF_MAP_TYPE_ARRAY) {
		ThrowType(info.Env(), "values must be whole values of an array");
		return Rejected(info.Env());
	}
	work.values = values.data;
	work.keep = Napi::Persistent(info[1].As<Napi::Object>());
	work.maps.resize(values.size / size);
	const size_t width = PoolWidth(work.maps.size());
	return Job<MapFill>::Start(info.Env(), std::move(work), width);
}

Napi::Value BpfMap::Info(const Napi::CallbackInfo &info) {
	if (!Usable(info, "bpf(BPF_OBJ_GET_INFO_BY_FD)")) return info.Env().Undefined();
	Napi::Object out = Napi::Object::New(info.Env());
	out.Set("id", info_.id);
	out.Set("name", info_.name);
	out.Set("type", info_.type);
	out.Set("keySize", info_.key_size);
	out.Set("valueSize", info_.value_size);
	out.Set("maxEntries", info_.max_entries);
	out.Set("flags", info_.map_flags);
	return out;
}

Napi::Value BpfMap::Lookup(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	Bytes key;
	if (!Usable(info, "bpf(BPF_MAP_LOOKUP_ELEM)") || !ReadBytes(info[0], "key", info_.key_size, &key))
		return env.Undefined();
	std::vector<uint8_t> value(value_bytes_);
	if (bpf_map_lookup_elem(fd(), key.data, value.data()))
		return errno == ENOENT ? env.Undefined() : Throw(env, Fail(errno, "bpf(BPF_MAP_LOOKUP_ELEM)"));
	return CopyOut(env, value.data(), value.size());
}

Napi::Value BpfMap::Update(const Napi::CallbackInfo &info) {
	Bytes key, value;
	uint32_t flags = BPF_ANY;
	if (Usable(info, "bpf(BPF_MAP_UPDATE_ELEM)") && ReadBytes(info[0], "key", info_.key_size, &key) &&
		ReadBytes(info[1], "value", value_bytes_, &value) && ReadOptionalU32(info[2], "flags", &flags) &&
		bpf_map_update_elem(fd(), key.data, value.data, flags))
		return Throw(info.Env(), Fail(errno, "bpf(BPF_MAP_UPDATE_ELEM)"));
	return info.Env().Undefined();
}

Napi::Value BpfMap::Delete(const Napi::CallbackInfo &info) {
	Bytes key;
	if (!Usable(info, "bpf(BPF_MAP_DELETE_ELEM)") || !ReadBytes(info[0], "key", info_.key_size, &key))
		return info.Env().Undefined();
	if (bpf_map_delete_elem(fd(), key.data) == 0) return Napi::Boolean::New(info.Env(), true);
	if (errno != ENOENT) return Throw(info.Env(), Fail(errno, "bpf(BPF_MAP_DELETE_ELEM)"));
	return Napi::Boolean::New(info.Env(), false);
}

Napi::Value BpfMap::NextKey(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	Bytes key;
	if (!Usable(info, "bpf(BPF_MAP_GET_NEXT_KEY)")) return env.Undefined();
	if (!info[0].IsUndefined() && !ReadBytes(info[0], "key", info_.key_size, &key)) return env.Undefined();
	std::vector<uint8_t> next(info_.key_size);
	if (bpf_map_get_next_key(fd(), key.data, next.data()))
		return errno == ENOENT ? env.Undefined() : Throw(env, Fail(errno, "bpf(BPF_MAP_GET_NEXT_KEY)"));
	return CopyOut(env, next.data(), next.size());
}

/** Copies keys and values; both must be whole, and equally many. */
bool BpfMap::ReadPairs(const Napi::CallbackInfo &info, MapUpdate *out) {
	Bytes keys, values;
	if (!Usable(info, "bpf(BPF_MAP_UPDATE_BATCH)") || !ReadBytes(info[0], "keys", &keys)) return false;
	if (info_.key_size == 0 || keys.size % info_.key_size) {
		ThrowType(info.Env(), "keys must be a multiple of " + std::to_string(info_.key_size) + " bytes");
		return false;
	}
	if (!ReadBytes(info[1], "values", keys.size / info_.key_size * value_bytes_, &values)) return false;
	out->keys.assign(keys.data, keys.data + keys.size);
	out->values.assign(values.data, values.data + values.size);
	out->key_size = info_.key_size;
	out->value_size = value_bytes_;
	out->fd = Duplicate();
	out->failure = Fail(0, "");
	return true;
}

Napi::Value BpfMap::UpdateBatchAsync(const Napi::CallbackInfo &info) {
	MapUpdate update;
	update.how = MapUpdate::How::kBatch;
	if (!ReadPairs(info, &update)) return Rejected(info.Env());
	return Job<MapUpdate>::Start(info.Env(), std::move(update));
}

Napi::Value BpfMap::UpdateParallelAsync(const Napi::CallbackInfo &info) {
	MapUpdate update;
	update.how = MapUpdate::How::kParallel;
	if (!ReadU32(info[2], "threads", &update.threads) || !ReadPairs(info, &update)) return Rejected(info.Env());
	update.threads = std::clamp(update.threads, 1u, kMaxThreads);
	return Job<MapUpdate>::Start(info.Env(), std::move(update));
}

Napi::Value BpfMap::UpdateAsync(const Napi::CallbackInfo &info) {
	MapUpdate update;
	uint32_t flags = BPF_ANY;
	Bytes key;
	if (!ReadBytes(info[0], "key", info_.key_size, &key) || !ReadOptionalU32(info[2], "flags", &flags) ||
		!ReadPairs(info, &update))
		return Rejected(info.Env());
	update.flags = flags;
	return Job<MapUpdate>::Start(info.Env(), std::move(update));
}

Napi::Value BpfMap::DeleteAsync(const Napi::CallbackInfo &info) {
	Bytes key;
	if (!Usable(info, "bpf(BPF_MAP_DELETE_ELEM)") || !ReadBytes(info[0], "key", info_.key_size, &key))
		return Rejected(info.Env());
	MapUpdate update;
	update.how = MapUpdate::How::kDelete;
	update.keys.assign(key.data, key.data + key.size);
	update.fd = Duplicate();
	update.failure = Fail(0, "");
	return Job<MapUpdate>::Start(info.Env(), std::move(update));
}

Napi::Value BpfMap::Mmap(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	bool read_only = false;
	if (!Usable(info, "mmap") || !ReadOption(info[0], "readOnly", &read_only)) return env.Undefined();
	if (info_.type != BPF_MAP_TYPE_ARRAY) return Throw(env, Fail(EINVAL, "mmap"));  // others are laid out otherwise
	const size_t size = RoundUp8(info_.value_size) * info_.max_entries;
	void *memory = mmap(nullptr, size, read_only ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd(), 0);
	if (memory == MAP_FAILED) return Throw(env, Fail(errno, "mmap"));
	const auto buffer =
		Napi::ArrayBuffer::New(env, memory, size, [size](Napi::Env, void *data) { munmap(data, size); });
	if (!buffer.IsEmpty()) return buffer;
	munmap(memory, size);  // the environment is being ended
	return env.Undefined();
}

}  // namespace xdpilot
