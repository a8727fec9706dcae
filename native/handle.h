// SPDX-License-Identifier: Apache-2.0
// File descriptors with one owner, and the JavaScript classes that hold them. A handle's descriptor is closed by
// close(), by its finaliser, or when its environment (a worker thread, the process) ends: whichever comes first.
#pragma once
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <napi.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "arguments.h"
#include "error.h"

namespace xdpilot {

class Fd {
public:
	explicit Fd(int fd = -1) : fd_(fd) {}
	Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	Fd &operator=(Fd &&other) noexcept {
		std::swap(fd_, other.fd_);
		return *this;
	}
	~Fd() { Close(); }
	int get() const { return fd_; }
	/** A second descriptor of the same object, so that work in flight survives a close(). */
	Fd Duplicate() const { return Fd(fcntl(fd_, F_DUPFD_CLOEXEC, 0)); }
	void Close() {
		if (fd_ >= 0) close(std::exchange(fd_, -1));
	}

private:
	int fd_;
};

/** What one environment owns: the classes' constructors. */
struct Classes {
	Napi::FunctionReference map, program, link;
};

/** Which kind of BPF object a descriptor is: the kernel gives any of them for any pinned path. */
bool IsBpfKind(int fd, const char *kind);

/**
 * Base of the classes that own a descriptor. T provides:
 *   kTag (napi_type_tag), kKind ("bpf-map", as /proc/self/fd names it), kProperty ("map", "program" or "" in errors),
 *   static Napi::FunctionReference &Constructor(Classes &), and Failure Opened(): called once fd_ is set.
 */
template <typename T>
class Handle : public Napi::ObjectWrap<T> {
public:
	/** Instances are made by Wrap() only: it leaves the descriptor for the constructor to take. */
	explicit Handle(const Napi::CallbackInfo &info) : Napi::ObjectWrap<T>(info) {
		Fd *handed = std::exchange(Handed(), nullptr);
		if (!handed) {
			ThrowType(info.Env(), "not constructible: use its static methods");
			return;
		}
		fd_ = std::move(*handed);
		info.This().As<Napi::Object>().TypeTag(&T::kTag);
	}

	static Napi::Value Wrap(Napi::Env env, Fd fd) {
		Handed() = &fd;
		Napi::Object object = T::Constructor(*env.GetInstanceData<Classes>()).New({});
		Handed() = nullptr;
		if (env.IsExceptionPending()) return env.Undefined();
		const Failure failure = Napi::ObjectWrap<T>::Unwrap(object)->Opened();
		return failure.err ? Throw(env, failure) : object;
	}

	/** nullptr with a TypeError pending when `value` is no T. */
	static T *From(Napi::Value value, const char *what) {
		if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&T::kTag))
			return Napi::ObjectWrap<T>::Unwrap(value.As<Napi::Object>());
		ThrowType(value.Env(), std::string(what) + " must be a " + T::kClass);
		return nullptr;
	}

	static Napi::Value Open(const Napi::CallbackInfo &info) {
		std::string path;
		if (!ReadString(info[0], "path", &path)) return info.Env().Undefined();
		Fd fd(bpf_obj_get(path.c_str()));
		if (fd.get() < 0) return Throw(info.Env(), {errno, "bpf(BPF_OBJ_GET)", "path", path, "", -1});
		if (!IsBpfKind(fd.get(), T::kKind))
			return Throw(info.Env(), {EINVAL, "bpf(BPF_OBJ_GET)", "path", path, "", -1});
		return Wrap(info.Env(), std::move(fd));
	}

	Napi::Value Pin(const Napi::CallbackInfo &info) {
		std::string path;
		if (!ReadString(info[0], "path", &path) || !Usable(info, "bpf(BPF_OBJ_PIN)")) return info.Env().Undefined();
		if (bpf_obj_pin(fd(), path.c_str()))
			return Throw(info.Env(), {errno, "bpf(BPF_OBJ_PIN)", "path", path, "", -1});
		return info.Env().Undefined();
	}

	Napi::Value GetFd(const Napi::CallbackInfo &info) {
		if (!Usable(info, "fd")) return info.Env().Undefined();
		return Napi::Number::New(info.Env(), fd());
	}

	Napi::Value Close(const Napi::CallbackInfo &info) {
		fd_.Close();
		return info.Env().Undefined();
	}

	int fd() const { return fd_.get(); }
	Fd Duplicate() const { return fd_.Duplicate(); }

	/** False with EBADF pending after close(). */
	bool Usable(const Napi::CallbackInfo &info, const char *syscall) const {
		if (fd() >= 0) return true;
		Throw(info.Env(), Fail(EBADF, syscall));
		return false;
	}

	Failure Fail(int err, const char *syscall) const { return {err, syscall, T::kProperty, name_, "", -1}; }

protected:
	std::string name_;

private:
	static Fd *&Handed() {
		static thread_local Fd *handed = nullptr;
		return handed;
	}
	Fd fd_;
};

}  // namespace xdpilot
