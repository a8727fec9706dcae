// SPDX-License-Identifier: Apache-2.0
// BpfMap. Synchronous calls are short system calls; those that may wait for an RCU grace period have an Async form,
// which copies its input and duplicates the descriptor, so that neither a later write nor a close() can reach it.
#include "map.h"

#include <bpf/libbpf.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>

#include "job.h"

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

/** Key-value pairs on their way into a map. */
struct Update {
	enum class How { kSingle, kBatch, kParallel, kDelete };

	Fd fd;
	How how = How::kSingle;
	std::vector<uint8_t> keys, values;
	size_t key_size = 0, value_size = 0;
	uint64_t flags = 0;
	uint32_t threads = 1;
	Failure failure;  // map name filled in by the caller
	bool deleted = true;

	void Run() {
		switch (how) {
			case How::kSingle:
				return Note(bpf_map_update_elem(fd.get(), keys.data(), values.data(), flags),
							"bpf(BPF_MAP_UPDATE_ELEM)");
			case How::kDelete:
				deleted = bpf_map_delete_elem(fd.get(), keys.data()) == 0;
				return Note(deleted || errno == ENOENT ? 0 : -1, "bpf(BPF_MAP_DELETE_ELEM)");
			case How::kBatch:
				return RunBatch();
			case How::kParallel:
				return RunParallel();
		}
	}

	Napi::Value Result(Napi::Env env) {
		return how == How::kDelete ? Napi::Boolean::New(env, deleted) : env.Undefined();
	}

private:
	size_t Count() const { return keys.size() / key_size; }

	void Note(int result, const char *syscall) {
		if (result) failure.err = errno;
		failure.syscall = syscall;
	}

	void RunBatch() {
		uint32_t count = static_cast<uint32_t>(Count());
		if (count == 0) return;
		LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = 0, .flags = 0);
		Note(bpf_map_update_batch(fd.get(), keys.data(), values.data(), &count, &opts), "bpf(BPF_MAP_UPDATE_BATCH)");
		if (failure.err) failure.done = std::min<size_t>(count, Count());
	}

	struct Share {
		Update *update;
		std::atomic<size_t> next{0}, done{0};
		std::atomic<int> err{0};
	};

	static void *RunShare(void *data) {
		Share *share = static_cast<Share *>(data);
		const Update *u = share->update;
		for (size_t i; !share->err && (i = share->next++) < u->Count();) {
			if (bpf_map_update_elem(u->fd.get(), &u->keys[i * u->key_size], &u->values[i * u->value_size], 0))
				share->err = errno;
			else
				share->done++;
		}
		return nullptr;
	}

	/** This thread takes part, so that the work is done even where no other thread can be had. */
	void RunParallel() {
		Share share;
		share.update = this;
		std::vector<pthread_t> helpers;
		for (size_t i = 1; i < std::min<size_t>(threads, Count()); i++) {
			pthread_t thread;
			if (pthread_create(&thread, nullptr, RunShare, &share)) break;
			helpers.push_back(thread);
		}
		RunShare(&share);
		for (pthread_t thread : helpers) pthread_join(thread, nullptr);
		failure.syscall = "bpf(BPF_MAP_UPDATE_ELEM)";
		failure.err = share.err;
		if (failure.err) failure.done = static_cast<int64_t>(share.done.load());
	}
};

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

namespace {

struct Spec {
	std::string name;
	uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0, flags = 0;

	bool Read(Napi::Value value) {
		if (!value.IsObject()) return ThrowType(value.Env(), "spec must be an object"), false;
		const Napi::Object spec = value.As<Napi::Object>();
		return ReadString(spec.Get("name"), "name", &name) && ReadU32(spec.Get("type"), "type", &type) &&
			   ReadU32(spec.Get("keySize"), "keySize", &key_size) &&
			   ReadU32(spec.Get("valueSize"), "valueSize", &value_size) &&
			   ReadU32(spec.Get("maxEntries"), "maxEntries", &max_entries) &&
			   ReadU32(spec.Get("flags"), "flags", &flags);
	}

	Fd Create(int inner = 0) const {
		LIBBPF_OPTS(bpf_map_create_opts, opts, .inner_map_fd = static_cast<uint32_t>(inner), .map_flags = flags);
		return Fd(
			bpf_map_create(static_cast<bpf_map_type>(type), name.c_str(), key_size, value_size, max_entries, &opts));
	}
};

/** Maps made and filled on several threads: a thousand rings cost a tenth of a second of one CPU. */
struct CreateFilled {
	struct Shared {
		std::atomic<size_t> next{0};
		std::mutex failing;
	};

	Spec spec;
	Napi::ObjectReference keep;
	const uint8_t *values = nullptr;
	std::vector<Fd> maps;
	Failure failure;
	std::unique_ptr<Shared> shared = std::make_unique<Shared>();

	void Run() {
		const std::vector<uint8_t> key(spec.key_size);
		for (size_t i; (i = shared->next++) < maps.size();) {
			maps[i] = spec.Create();
			if (maps[i].get() < 0) return Note(errno, "bpf(BPF_MAP_CREATE)", i);
			if (bpf_map_update_elem(maps[i].get(), key.data(), values + i * spec.value_size, BPF_ANY))
				return Note(errno, "bpf(BPF_MAP_UPDATE_ELEM)", i);
		}
	}

	void Note(int err, const char *syscall, size_t i) {
		shared->next = maps.size();  // no thread starts another
		const std::lock_guard<std::mutex> lock(shared->failing);
		if (!failure.err) failure = {err, syscall, "map", spec.name, "", static_cast<int64_t>(i)};
	}

	Napi::Value Result(Napi::Env env) {
		Napi::Array out = Napi::Array::New(env, maps.size());
		for (uint32_t i = 0; i < maps.size(); i++) out.Set(i, BpfMap::Wrap(env, std::move(maps[i])));
		return out;
	}
};

}  // namespace

Napi::Value BpfMap::Create(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	Spec spec;
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
	CreateFilled work;
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
	return Job<CreateFilled>::Start(info.Env(), std::move(work), width);
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
bool BpfMap::ReadPairs(const Napi::CallbackInfo &info, struct Update *out) {
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
	struct Update update;
	update.how = Update::How::kBatch;
	if (!ReadPairs(info, &update)) return Rejected(info.Env());
	return Job<struct Update>::Start(info.Env(), std::move(update));
}

Napi::Value BpfMap::UpdateParallelAsync(const Napi::CallbackInfo &info) {
	struct Update update;
	update.how = Update::How::kParallel;
	if (!ReadU32(info[2], "threads", &update.threads) || !ReadPairs(info, &update)) return Rejected(info.Env());
	update.threads = std::clamp(update.threads, 1u, kMaxThreads);
	return Job<struct Update>::Start(info.Env(), std::move(update));
}

Napi::Value BpfMap::UpdateAsync(const Napi::CallbackInfo &info) {
	struct Update update;
	uint32_t flags = BPF_ANY;
	Bytes key;
	if (!ReadBytes(info[0], "key", info_.key_size, &key) || !ReadOptionalU32(info[2], "flags", &flags) ||
		!ReadPairs(info, &update))
		return Rejected(info.Env());
	update.flags = flags;
	return Job<struct Update>::Start(info.Env(), std::move(update));
}

Napi::Value BpfMap::DeleteAsync(const Napi::CallbackInfo &info) {
	Bytes key;
	if (!Usable(info, "bpf(BPF_MAP_DELETE_ELEM)") || !ReadBytes(info[0], "key", info_.key_size, &key))
		return Rejected(info.Env());
	struct Update update;
	update.how = Update::How::kDelete;
	update.keys.assign(key.data, key.data + key.size);
	update.fd = Duplicate();
	update.failure = Fail(0, "");
	return Job<struct Update>::Start(info.Env(), std::move(update));
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
