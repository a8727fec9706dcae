// SPDX-License-Identifier: Apache-2.0
// Failures as Node system errors: {code: 'E2BIG', errno: -7, syscall: 'bpf(BPF_MAP_UPDATE_ELEM)', map | path |
// program}. A Failure is plain data, so that a worker thread can fill one; only the JavaScript thread turns it into an
// Error.
#pragma once
#include <napi.h>

#include <string>

namespace xdpilot {

struct Failure {
	int err = 0;               // positive errno, or a libbpf code from 4000 on; 0 = none
	const char *syscall = "";  // "bpf(BPF_MAP_CREATE)", "setns", ...
	const char *kind = "";     // the property that names the subject: "map", "path", "program", or ""
	std::string subject;
	std::string verifier_log;  // property verifierLog, when not empty
	int64_t done = -1;         // property done: elements finished before the failure, when not negative
};

Napi::Error SystemError(Napi::Env env, const Failure &failure);

/** Throws and returns undefined, for `return Throw(...)`. */
Napi::Value Throw(Napi::Env env, const Failure &failure);
/** The same for a wrong argument: a TypeError, since that is a bug of the caller and no failure of the system. */
Napi::Value ThrowType(Napi::Env env, const std::string &message);
/** A promise rejected with the pending exception: asynchronous methods never throw. */
Napi::Value Rejected(Napi::Env env);

}  // namespace xdpilot
