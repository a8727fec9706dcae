// SPDX-License-Identifier: Apache-2.0
// What BpfMap does on worker threads: updates that may wait for a grace period, and maps made by the thousand. Each is
// the State of a Job.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "handle.h"

namespace xdpilot {

/** The arguments of BPF_MAP_CREATE, as JavaScript gives them. */
struct MapSpec {
	std::string name;
	uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0, flags = 0;

	bool Read(Napi::Value value);
	/** A descriptor of -1, and errno, where the kernel refuses. `inner`: of a map-in-map's template. */
	Fd Create(int inner = 0) const;
};

/** Key-value pairs on their way into a map. */
struct MapUpdate {
	enum class How { kSingle, kBatch, kParallel, kDelete };

	Fd fd;
	How how = How::kSingle;
	std::vector<uint8_t> keys, values;
	size_t key_size = 0, value_size = 0;
	uint64_t flags = 0;
	uint32_t threads = 1;
	Failure failure;  // the map's name is there from the start
	bool deleted = true;

	void Run();
	Napi::Value Result(Napi::Env env) {
		return how == How::kDelete ? Napi::Boolean::New(env, deleted) : env.Undefined();
	}

private:
	size_t Count() const { return keys.size() / key_size; }
	void Note(int result, const char *syscall);
	void RunBatch();
	void RunParallel();
	struct Share;
	static void *RunShare(void *data);
};

/** Arrays of one element, made and filled: a thousand rings cost a tenth of a second of one CPU. */
struct MapFill {
	MapSpec spec;
	Napi::ObjectReference keep;  // of the memory behind `values`
	const uint8_t *values = nullptr;
	std::vector<Fd> maps;
	Failure failure;

	void Run();
	Napi::Value Result(Napi::Env env);

private:
	void Note(int err, const char *syscall, size_t i);
	struct Shared {
		std::atomic<size_t> next{0};
		std::mutex failing;
	};
	std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
};

}  // namespace xdpilot
