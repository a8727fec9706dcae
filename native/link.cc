// SPDX-License-Identifier: Apache-2.0
// BpfLink, on bpf(BPF_LINK_CREATE): a second attach is refused by the kernel, a replacement is one pointer.
#include "link.h"

#include <linux/bpf.h>

#include "program.h"

namespace xdpilot {

Napi::Function BpfLink::Define(Napi::Env env) {
	return DefineClass(env, kClass,
					   {StaticMethod("open", &BpfLink::Open), StaticMethod("attachXdp", &BpfLink::AttachXdp),
						InstanceAccessor("fd", &BpfLink::GetFd, nullptr), InstanceMethod("update", &BpfLink::Update),
						InstanceMethod("info", &BpfLink::Info), InstanceMethod("pin", &BpfLink::Pin),
						InstanceMethod("close", &BpfLink::Close)});
}

Napi::Value BpfLink::AttachXdp(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	constexpr const char *kCall = "bpf(BPF_LINK_CREATE)";
	uint32_t ifindex, flags;
	const BpfProgram *program = BpfProgram::From(info[0], "program");
	if (!program || !program->Usable(info, kCall) || !ReadU32(info[1], "ifindex", &ifindex) ||
		!ReadU32(info[2], "flags", &flags))
		return env.Undefined();
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
	Fd fd(bpf_link_create(program->fd(), static_cast<int>(ifindex), BPF_XDP, &opts));
	if (fd.get() < 0) return Throw(env, program->Fail(errno, kCall));
	return Wrap(env, std::move(fd));
}

Napi::Value BpfLink::Update(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	constexpr const char *kCall = "bpf(BPF_LINK_UPDATE)";
	const BpfProgram *program = BpfProgram::From(info[0], "program");
	if (!program || !Usable(info, kCall) || !program->Usable(info, kCall)) return env.Undefined();
	LIBBPF_OPTS(bpf_link_update_opts, opts, .flags = 0, .old_prog_fd = 0);
	if (!info[1].IsUndefined()) {
		const BpfProgram *expected = BpfProgram::From(info[1], "expected");
		if (!expected || !expected->Usable(info, kCall)) return env.Undefined();
		opts.flags = BPF_F_REPLACE;
		opts.old_prog_fd = static_cast<uint32_t>(expected->fd());
	}
	if (bpf_link_update(fd(), program->fd(), &opts)) return Throw(env, program->Fail(errno, kCall));
	return env.Undefined();
}

Napi::Value BpfLink::Info(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	constexpr const char *kCall = "bpf(BPF_OBJ_GET_INFO_BY_FD)";
	if (!Usable(info, kCall)) return env.Undefined();
	bpf_link_info facts = {};
	uint32_t size = sizeof(facts);
	if (bpf_obj_get_info_by_fd(fd(), &facts, &size)) return Throw(env, Fail(errno, kCall));
	Napi::Object out = Napi::Object::New(env);
	out.Set("id", facts.id);
	out.Set("type", facts.type);
	out.Set("programId", facts.prog_id);
	out.Set("ifindex", facts.type == BPF_LINK_TYPE_XDP ? facts.xdp.ifindex : 0);
	return out;
}

}  // namespace xdpilot
