// SPDX-License-Identifier: Apache-2.0
// The system calls behind map_work.h. Nothing here but Read and Result touches JavaScript.
#include "map_work.h"

#include <errno.h>
#include <pthread.h>

#include <algorithm>

#include "map.h"

namespace xdpilot {

bool MapSpec::Read(Napi::Value value) {
	if (!value.IsObject()) return ThrowType(value.Env(), "spec must be an object"), false;
	const Napi::Object spec = value.As<Napi::Object>();
	return ReadString(spec.Get("name"), "name", &name) && ReadU32(spec.Get("type"), "type", &type) &&
		   ReadU32(spec.Get("keySize"), "keySize", &key_size) &&
		   ReadU32(spec.Get("valueSize"), "valueSize", &value_size) &&
		   ReadU32(spec.Get("maxEntries"), "maxEntries", &max_entries) && ReadU32(spec.Get("flags"), "flags", &flags);
}

Fd MapSpec::Create(int inner) const {
	LIBBPF_OPTS(bpf_map_create_opts, opts, .inner_map_fd = static_cast<uint32_t>(inner), .map_flags = flags);
	return Fd(bpf_map_create(static_cast<bpf_map_type>(type), name.c_str(), key_size, value_size, max_entries, &opts));
}

void MapUpdate::Run() {
	switch (how) {
		case How::kSingle:
			return Note(bpf_map_update_elem(fd.get(), keys.data(), values.data(), flags), "bpf(BPF_MAP_UPDATE_ELEM)");
		case How::kDelete:
			deleted = bpf_map_delete_elem(fd.get(), keys.data()) == 0;
			return Note(deleted || errno == ENOENT ? 0 : -1, "bpf(BPF_MAP_DELETE_ELEM)");
		case How::kBatch:
			return RunBatch();
		case How::kParallel:
			return RunParallel();
	}
}

void MapUpdate::Note(int result, const char *syscall) {
	if (result) failure.err = errno;
	failure.syscall = syscall;
}

void MapUpdate::RunBatch() {
	uint32_t count = static_cast<uint32_t>(Count());
	if (count == 0) return;
	LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = 0, .flags = 0);
	Note(bpf_map_update_batch(fd.get(), keys.data(), values.data(), &count, &opts), "bpf(BPF_MAP_UPDATE_BATCH)");
	if (failure.err) failure.done = std::min<size_t>(count, Count());
}

struct MapUpdate::Share {
	const MapUpdate *update;
	std::atomic<size_t> next{0}, done{0};
	std::atomic<int> err{0};
};

void *MapUpdate::RunShare(void *data) {
	Share *share = static_cast<Share *>(data);
	const MapUpdate *u = share->update;
	for (size_t i; !share->err && (i = share->next++) < u->Count();) {
		if (bpf_map_update_elem(u->fd.get(), &u->keys[i * u->key_size], &u->values[i * u->value_size], BPF_ANY))
			share->err = errno;
		else
			share->done++;
	}
	return nullptr;
}

/** This thread takes part, so that the work is done even where no other thread can be had. */
void MapUpdate::RunParallel() {
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

void MapFill::Run() {
	const std::vector<uint8_t> key(spec.key_size);
	for (size_t i; (i = shared_->next++) < maps.size();) {
		maps[i] = spec.Create();
		if (maps[i].get() < 0) return Note(errno, "bpf(BPF_MAP_CREATE)", i);
		if (bpf_map_update_elem(maps[i].get(), key.data(), values + i * spec.value_size, BPF_ANY))
			return Note(errno, "bpf(BPF_MAP_UPDATE_ELEM)", i);
	}
}

void MapFill::Note(int err, const char *syscall, size_t i) {
	shared_->next = maps.size();  // no thread starts another
	const std::lock_guard<std::mutex> lock(shared_->failing);
	if (!failure.err) failure = {err, syscall, "map", spec.name, "", static_cast<int64_t>(i)};
}

Napi::Value MapFill::Result(Napi::Env env) {
	Napi::Array out = Napi::Array::New(env, maps.size());
	for (uint32_t i = 0; i < maps.size(); i++) out.Set(i, BpfMap::Wrap(env, std::move(maps[i])));
	return out;
}

}  // namespace xdpilot
