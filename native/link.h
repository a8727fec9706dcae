// SPDX-License-Identifier: Apache-2.0
// BpfLink: the attachment of an XDP program to an interface. It ends with its last descriptor unless pinned.
#pragma once
#include "handle.h"

namespace xdpilot {

class BpfLink : public Handle<BpfLink> {
public:
	static constexpr napi_type_tag kTag = {0x5a6c0fd1f7f84a51, 0x9d6f5f6e2b1d4c03};
	static constexpr const char *kClass = "BpfLink", *kKind = "bpf_link", *kProperty = "";
	static Napi::FunctionReference &Constructor(Classes &classes) { return classes.link; }
	static Napi::Function Define(Napi::Env env);

	using Handle::Handle;
	Failure Opened() { return {}; }

private:
	static Napi::Value AttachXdp(const Napi::CallbackInfo &info);
	Napi::Value Update(const Napi::CallbackInfo &info);
	Napi::Value Info(const Napi::CallbackInfo &info);
};

}  // namespace xdpilot
