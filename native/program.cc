// SPDX-License-Identifier: Apache-2.0
// BpfProgram. A run works on copies: the frame handed in is never changed.
#include "program.h"

#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "job.h"

namespace xdpilot {

namespace {

constexpr const char *kTestRunCall = "bpf(BPF_PROG_TEST_RUN)";
constexpr size_t kRoomToGrow = 512;  // more than XDP's headroom, for programs that encapsulate

void AppendU32(std::vector<uint8_t> *out, uint32_t value) {
	const uint8_t *bytes = reinterpret_cast<const uint8_t *>(&value);
	out->insert(out->end(), bytes, bytes + sizeof(value));
}

Failure ReadInfo(int fd, bpf_prog_info *out) {
	uint32_t size = sizeof(*out);
	memset(out, 0, sizeof(*out));  // non-zero pointers and lengths would ask for instructions
	if (bpf_obj_get_info_by_fd(fd, out, &size)) return {errno, "bpf(BPF_OBJ_GET_INFO_BY_FD)", "", "", "", -1};
	return {};
}

}  // namespace

struct TestRun {
	Fd fd;
	std::vector<uint8_t> frame, out;
	uint32_t repeat = 1, ifindex = 0, out_size = 0, verdict = 0, duration = 0;
	bool live_frames = false;
	Failure failure;

	void Run() { RunOn(fd.get()); }

	void RunOn(int program) {
		out.resize(live_frames ? 0 : std::max<size_t>(out_size, frame.size() + kRoomToGrow));
		xdp_md context = {};
		context.data_end = static_cast<uint32_t>(frame.size());
		context.ingress_ifindex = ifindex;
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_out = live_frames ? nullptr : out.data(),
					.data_size_in = static_cast<uint32_t>(frame.size()),
					.data_size_out = static_cast<uint32_t>(out.size()), .repeat = static_cast<int>(repeat));
		if (ifindex) {
			opts.ctx_in = &context;
			opts.ctx_size_in = sizeof(context);
		}
		if (live_frames) opts.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
		failure.syscall = kTestRunCall;
		if (bpf_prog_test_run_opts(program, &opts)) {
			failure.err = errno;
			return;
		}
		out.resize(std::min<size_t>(opts.data_size_out, out.size()));
		verdict = opts.retval;
		duration = opts.duration;
	}

	Napi::Value Result(Napi::Env env) {
		Napi::Object result = Napi::Object::New(env);
		result.Set("verdict", verdict);
		result.Set("out", CopyOut(env, out.data(), out.size()));
		result.Set("durationNs", duration);
		return result;
	}
};

Napi::Function BpfProgram::Define(Napi::Env env) {
	return DefineClass(env, kClass,
					   {StaticMethod("open", &BpfProgram::Open), InstanceAccessor("fd", &BpfProgram::GetFd, nullptr),
						InstanceMethod("info", &BpfProgram::Info), InstanceMethod("testRun", &BpfProgram::TestRun),
						InstanceMethod("testRunAsync", &BpfProgram::TestRunAsync),
						InstanceMethod("testRunMany", &BpfProgram::TestRunMany),
						InstanceMethod("pin", &BpfProgram::Pin), InstanceMethod("close", &BpfProgram::Close)});
}

Failure BpfProgram::Opened() {
	bpf_prog_info facts;
	const Failure failure = ReadInfo(fd(), &facts);
	if (!failure.err) name_ = facts.name;
	return failure;
}

Napi::Value BpfProgram::Info(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	if (!Usable(info, "bpf(BPF_OBJ_GET_INFO_BY_FD)")) return env.Undefined();
	bpf_prog_info facts;
	if (const Failure failure = ReadInfo(fd(), &facts); failure.err)
		return Throw(env, Fail(failure.err, failure.syscall));
	char tag[2 * sizeof(facts.tag) + 1];
	for (size_t i = 0; i < sizeof(facts.tag); i++) snprintf(tag + 2 * i, 3, "%02x", facts.tag[i]);
	Napi::Object out = Napi::Object::New(env);
	out.Set("id", facts.id);
	out.Set("name", facts.name);
	out.Set("tag", tag);
	out.Set("xlatedBytes", facts.xlated_prog_len);
	out.Set("jitedBytes", facts.jited_prog_len);
	out.Set("verifiedInstructions", facts.verified_insns);
	return out;
}

bool BpfProgram::ReadRun(const Napi::CallbackInfo &info, struct TestRun *out) {
	Bytes frame;
	if (!Usable(info, kTestRunCall) || !ReadBytes(info[0], "frame", &frame) ||
		!ReadOption(info[1], "repeat", &out->repeat) || !ReadOption(info[1], "ifindex", &out->ifindex) ||
		!ReadOption(info[1], "outSize", &out->out_size) || !ReadOption(info[1], "liveFrames", &out->live_frames))
		return false;
	out->frame.assign(frame.data, frame.data + frame.size);
	out->failure = Fail(0, kTestRunCall);
	return true;
}

Napi::Value BpfProgram::TestRun(const Napi::CallbackInfo &info) {
	struct TestRun run;
	if (!ReadRun(info, &run)) return info.Env().Undefined();
	run.RunOn(fd());
	return run.failure.err ? Throw(info.Env(), run.failure) : run.Result(info.Env());
}

Napi::Value BpfProgram::TestRunAsync(const Napi::CallbackInfo &info) {
	struct TestRun run;
	if (!ReadRun(info, &run)) return Rejected(info.Env());
	run.fd = Duplicate();
	return Job<struct TestRun>::Start(info.Env(), std::move(run));
}

Napi::Value BpfProgram::TestRunMany(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	Bytes frames;
	if (!Usable(info, kTestRunCall) || !ReadBytes(info[0], "frames", &frames)) return env.Undefined();
	std::vector<uint8_t> results;
	struct TestRun run;
	run.failure = Fail(0, kTestRunCall);
	for (size_t at = 0, n = 0; at < frames.size; n++) {
		uint32_t length = 0;
		if (frames.size - at >= sizeof(length)) memcpy(&length, frames.data + at, sizeof(length));
		at += sizeof(length);
		if (at > frames.size || length > frames.size - at)
			return ThrowType(env, "frames: number " + std::to_string(n) + " is longer than what is left");
		run.frame.assign(frames.data + at, frames.data + at + length);
		at += length;
		run.RunOn(fd());
		if (run.failure.err) {
			run.failure.done = static_cast<int64_t>(n);
			return Throw(env, run.failure);
		}
		AppendU32(&results, run.verdict);
		AppendU32(&results, static_cast<uint32_t>(run.out.size()));
		results.insert(results.end(), run.out.begin(), run.out.end());
	}
	return CopyOut(env, results.data(), results.size());
}

}  // namespace xdpilot
