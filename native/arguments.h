// SPDX-License-Identifier: Apache-2.0
// Bytes and numbers in from JavaScript, bytes out. Each reader returns false with a TypeError pending when the argument
// is not what the contract (src/native/addon.d.ts) says; nothing here trusts a length.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

namespace xdpilot {

struct Bytes {
	const uint8_t *data = nullptr;
	size_t size = 0;
};

bool ReadBytes(Napi::Value value, const char *what, Bytes *out);
/** Exactly `size` bytes. */
bool ReadBytes(Napi::Value value, const char *what, size_t size, Bytes *out);
bool ReadString(Napi::Value value, const char *what, std::string *out);
bool ReadU64(Napi::Value value, const char *what, uint64_t *out);
bool ReadU64s(Napi::Value value, const char *what, std::vector<uint64_t> *out);
bool ReadU32(Napi::Value value, const char *what, uint32_t *out);
/** undefined leaves `out` as it was. */
bool ReadOptionalU32(Napi::Value value, const char *what, uint32_t *out);
/** A property of an options object; an absent object or property leaves `out` as it was. */
bool ReadOption(Napi::Value options, const char *name, uint32_t *out);
bool ReadOption(Napi::Value options, const char *name, bool *out);

/** A new Uint8Array with a copy; undefined in an environment that is being ended, which can't make one. */
Napi::Value CopyOut(Napi::Env env, const void *data, size_t size);

}  // namespace xdpilot
