// SPDX-License-Identifier: Apache-2.0
// Work on libuv's threads that settles a promise. A State is moved in and has:
//   void Run()                       on worker threads, no JavaScript; several at once when `width` > 1
//   Failure failure                  set by Run; err != 0 rejects
//   Napi::Value Result(Napi::Env)    on the JavaScript thread, after every Run has returned
// An environment that ends waits for its jobs, so nothing that a State refers to may need JavaScript to be freed.
#pragma once
#include <napi.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "error.h"

namespace xdpilot {

/** Threads for `items` pieces of work: no more than CPUs, and not all of libuv's four, which files and names need too.
 */
inline size_t PoolWidth(size_t items) {
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return std::clamp<size_t>(std::min(items, static_cast<size_t>(std::max(1L, cpus))), 1, 3);
}

template <typename State>
class Job {
public:
	static Napi::Value Start(Napi::Env env, State state, size_t width = 1) {
		Job *job = new Job(std::move(state), width);
		napi_value promise = nullptr;
		if (napi_create_promise(env, &job->deferred_, &promise) != napi_ok) {  // the environment is being ended
			delete job;
			return env.Undefined();
		}
		const Napi::String name = Napi::String::New(env, "xdpilot");
		for (napi_async_work &work : job->works_) napi_create_async_work(env, nullptr, name, Run, Complete, job, &work);
		for (napi_async_work work : job->works_) napi_queue_async_work(env, work);
		return Napi::Value(env, promise);
	}

private:
	Job(State state, size_t width) : state_(std::move(state)), works_(width), running_(width) {}

	static void Run(napi_env, void *data) { static_cast<Job *>(data)->state_.Run(); }

	static void Complete(napi_env raw, napi_status, void *data) {
		Job *job = static_cast<Job *>(data);
		if (--job->running_ > 0) return;
		Napi::Env env(raw);
		Napi::HandleScope scope(env);
		// In an environment that is ending these calls fail, and nobody waits for the promise.
		if (job->state_.failure.err)
			napi_reject_deferred(env, job->deferred_, SystemError(env, job->state_.failure).Value());
		else
			napi_resolve_deferred(env, job->deferred_, job->state_.Result(env));
		for (napi_async_work work : job->works_) napi_delete_async_work(env, work);
		delete job;
	}

	State state_;
	std::vector<napi_async_work> works_;
	size_t running_;
	napi_deferred deferred_ = nullptr;
};

}  // namespace xdpilot
