// SPDX-License-Identifier: Apache-2.0
// errno -> JavaScript Error, in the form of Node's own.
#include "error.h"

#include <bpf/libbpf.h>
#include <ctype.h>
#include <string.h>

namespace xdpilot {

namespace {

constexpr int kKernelNotSupported = 524;  // ENOTSUPP: the kernel's own, leaks to user space from bpf(2) and mmap(2)
constexpr int kFirstLibbpfCode = 4000;    // __LIBBPF_ERRNO__START

std::string CodeName(int err) {
	if (err == kKernelNotSupported) return "ENOTSUPP";
	if (err >= kFirstLibbpfCode) return "ELIBBPF";
	const char *name = strerrorname_np(err);
	return name ? name : "EUNKNOWN";
}

std::string Description(int err) {
	if (err == kKernelNotSupported) return "not supported by this kernel object";
	char buffer[256] = "";
	if (err >= kFirstLibbpfCode) {
		libbpf_strerror(err, buffer, sizeof(buffer));
		return buffer;
	}
	std::string text = strerror_r(err, buffer, sizeof(buffer));
	if (text.size() > 1 && islower(static_cast<unsigned char>(text[1])))
		text[0] = static_cast<char>(tolower(static_cast<unsigned char>(text[0])));
	return text;
}

}  // namespace

Napi::Error SystemError(Napi::Env env, const Failure &failure) {
	const std::string code = CodeName(failure.err);
	std::string message = code + ": " + Description(failure.err) + ", " + failure.syscall;
	if (!failure.subject.empty()) message += " '" + failure.subject + "'";
	Napi::Error error = Napi::Error::New(env, message);
	Napi::Object object = error.Value();
	object.Set("code", code);
	object.Set("errno", -failure.err);
	object.Set("syscall", failure.syscall);
	if (*failure.kind) object.Set(failure.kind, failure.subject);
	if (!failure.verifier_log.empty()) object.Set("verifierLog", failure.verifier_log);
	if (failure.done >= 0) object.Set("done", static_cast<double>(failure.done));
	return error;
}

Napi::Value Throw(Napi::Env env, const Failure &failure) {
	SystemError(env, failure).ThrowAsJavaScriptException();
	return env.Undefined();
}

Napi::Value ThrowType(Napi::Env env, const std::string &message) {
	Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
	return env.Undefined();
}

Napi::Value Rejected(Napi::Env env) {
	const Napi::Error error = env.GetAndClearPendingException();
	const auto deferred = Napi::Promise::Deferred::New(env);
	deferred.Reject(error.Value());
	return deferred.Promise();
}

}  // namespace xdpilot
