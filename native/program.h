// SPDX-License-Identifier: Apache-2.0
// BpfProgram: a loaded program. BPF_PROG_TEST_RUN and facts about it.
#pragma once
#include "handle.h"

namespace xdpilot {

class BpfProgram : public Handle<BpfProgram> {
public:
	static constexpr napi_type_tag kTag = {0x5a6c0fd1f7f84a51, 0x9d6f5f6e2b1d4c02};
	static constexpr const char *kClass = "BpfProgram", *kKind = "bpf-prog", *kProperty = "program";
	static Napi::FunctionReference &Constructor(Classes &classes) { return classes.program; }
	static Napi::Function Define(Napi::Env env);

	using Handle::Handle;
	Failure Opened();

private:
	Napi::Value Info(const Napi::CallbackInfo &info);
	Napi::Value TestRun(const Napi::CallbackInfo &info);
	Napi::Value TestRunAsync(const Napi::CallbackInfo &info);
	Napi::Value TestRunMany(const Napi::CallbackInfo &info);
	bool ReadRun(const Napi::CallbackInfo &info, struct TestRun *out);
};

}  // namespace xdpilot
