// SPDX-License-Identifier: Apache-2.0
// Small system calls without a home in Node.
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>

#include "exports.h"
#include "handle.h"

namespace xdpilot {

bool IsBpfKind(int fd, const char *kind) {
	char link[PATH_MAX] = "";
	const std::string path = "/proc/self/fd/" + std::to_string(fd);
	const ssize_t length = readlink(path.c_str(), link, sizeof(link) - 1);
	// A link's descriptor is bpf_link when it was created and bpf-link when it was opened from a pin.
	std::replace(link, link + sizeof(link), '_', '-');
	std::string wanted(kind);
	std::replace(wanted.begin(), wanted.end(), '_', '-');
	return length > 0 && std::string(link, static_cast<size_t>(length)) == "anon-inode:" + wanted;
}

namespace {

/** sd_notify(3): one datagram; a leading @ names an abstract socket. */
Napi::Value SdNotify(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	std::string state;
	if (!ReadString(info[0], "state", &state)) return env.Undefined();
	const char *variable = getenv("NOTIFY_SOCKET");
	if (!variable || !*variable) return Napi::Boolean::New(env, false);
	const std::string path = variable;
	sockaddr_un address = {};
	address.sun_family = AF_UNIX;
	if (path.size() >= sizeof(address.sun_path)) return Throw(env, {ENAMETOOLONG, "sendto", "path", path, "", -1});
	if (path[0] != '/' && path[0] != '@') return Throw(env, {EAFNOSUPPORT, "sendto", "path", path, "", -1});
	memcpy(address.sun_path, path.data(), path.size());
	if (path[0] == '@') address.sun_path[0] = '\0';
	const Fd socket_fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (socket_fd.get() < 0) return Throw(env, {errno, "socket", "path", path, "", -1});
	const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
	if (sendto(socket_fd.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr *>(&address),
			   length) < 0)
		return Throw(env, {errno, "sendto", "path", path, "", -1});
	return Napi::Boolean::New(env, true);
}

Napi::Value PeerCredentials(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	uint32_t fd;
	if (!ReadU32(info[0], "fd", &fd)) return env.Undefined();
	ucred peer = {};
	socklen_t size = sizeof(peer);
	if (getsockopt(static_cast<int>(fd), SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return Throw(env, {errno, "getsockopt(SO_PEERCRED)", "", "", "", -1});
	Napi::Object out = Napi::Object::New(env);
	out.Set("pid", peer.pid);
	out.Set("uid", peer.uid);
	out.Set("gid", peer.gid);
	return out;
}

Napi::Value EnterNetns(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	std::string path;
	if (!ReadString(info[0], "path", &path)) return env.Undefined();
	const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
	if (fd.get() < 0) return Throw(env, {errno, "open", "path", path, "", -1});
	if (setns(fd.get(), CLONE_NEWNET)) return Throw(env, {errno, "setns", "path", path, "", -1});
	return env.Undefined();
}

/** flock(2), exclusive and without waiting. The kernel lets go of it with the last fd, however the process ends. */
Napi::Value TryLock(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	uint32_t fd;
	if (!ReadU32(info[0], "fd", &fd)) return env.Undefined();
	if (flock(static_cast<int>(fd), LOCK_EX | LOCK_NB) == 0) return Napi::Boolean::New(env, true);
	if (errno == EWOULDBLOCK) return Napi::Boolean::New(env, false);
	return Throw(env, {errno, "flock", "", "", "", -1});
}

Napi::Value PossibleCpus(const Napi::CallbackInfo &info) {
	const int cpus = libbpf_num_possible_cpus();
	if (cpus < 0) return Throw(info.Env(), {-cpus, "open", "path", "/sys/devices/system/cpu/possible", "", -1});
	return Napi::Number::New(info.Env(), cpus);
}

Napi::Value LibbpfVersion(const Napi::CallbackInfo &info) {
	return Napi::String::New(info.Env(), libbpf_version_string());
}

}  // namespace

void DefineHost(Napi::Env env, Napi::Object exports) {
	exports.Set("sdNotify", Napi::Function::New<SdNotify>(env, "sdNotify"));
	exports.Set("peerCredentials", Napi::Function::New<PeerCredentials>(env, "peerCredentials"));
	exports.Set("enterNetns", Napi::Function::New<EnterNetns>(env, "enterNetns"));
	exports.Set("tryLock", Napi::Function::New<TryLock>(env, "tryLock"));
	exports.Set("possibleCpus", Napi::Function::New<PossibleCpus>(env, "possibleCpus"));
	exports.Set("libbpfVersion", Napi::Function::New<LibbpfVersion>(env, "libbpfVersion"));
}

}  // namespace xdpilot
