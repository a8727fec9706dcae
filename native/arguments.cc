// SPDX-License-Identifier: Apache-2.0
// Bytes and numbers in, bytes out.
#include "arguments.h"

#include <math.h>
#include <string.h>

#include "error.h"

namespace xdpilot {

namespace {

bool Refuse(Napi::Value value, const std::string &message) {
	ThrowType(value.Env(), message);
	return false;
}

}  // namespace

bool ReadBytes(Napi::Value value, const char *what, Bytes *out) {
	if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
		return Refuse(value, std::string(what) + " must be a Uint8Array");
	Napi::Uint8Array array = value.As<Napi::Uint8Array>();
	out->data = array.Data();
	out->size = array.ByteLength();
	return true;
}

bool ReadBytes(Napi::Value value, const char *what, size_t size, Bytes *out) {
	if (!ReadBytes(value, what, out)) return false;
	if (out->size == size) return true;
	return Refuse(
		value, std::string(what) + " must have " + std::to_string(size) + " bytes, got " + std::to_string(out->size));
}

bool ReadString(Napi::Value value, const char *what, std::string *out) {
	if (!value.IsString()) return Refuse(value, std::string(what) + " must be a string");
	*out = value.As<Napi::String>().Utf8Value();
	if (out->find('\0') != std::string::npos) return Refuse(value, std::string(what) + " must not hold a NUL");
	return true;
}

bool ReadU64(Napi::Value value, const char *what, uint64_t *out) {
	bool lossless = false;
	if (value.IsBigInt()) *out = value.As<Napi::BigInt>().Uint64Value(&lossless);
	return lossless || Refuse(value, std::string(what) + " must be a bigint of 64 bits without sign");
}

bool ReadU64s(Napi::Value value, const char *what, std::vector<uint64_t> *out) {
	if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_biguint64_array)
		return Refuse(value, std::string(what) + " must be a BigUint64Array");
	const auto array = value.As<Napi::BigUint64Array>();
	out->assign(array.Data(), array.Data() + array.ElementLength());
	return true;
}

bool ReadU32(Napi::Value value, const char *what, uint32_t *out) {
	const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
	if (!(number >= 0 && number <= UINT32_MAX && floor(number) == number))
		return Refuse(value, std::string(what) + " must be an integer from 0 to 4294967295");
	*out = static_cast<uint32_t>(number);
	return true;
}

bool ReadOptionalU32(Napi::Value value, const char *what, uint32_t *out) {
	return value.IsUndefined() || ReadU32(value, what, out);
}

bool ReadOption(Napi::Value options, const char *name, uint32_t *out) {
	if (options.IsUndefined()) return true;
	if (!options.IsObject()) return Refuse(options, "options must be an object");
	return ReadOptionalU32(options.As<Napi::Object>().Get(name), name, out);
}

bool ReadOption(Napi::Value options, const char *name, bool *out) {
	if (options.IsUndefined()) return true;
	if (!options.IsObject()) return Refuse(options, "options must be an object");
	const Napi::Value value = options.As<Napi::Object>().Get(name);
	if (value.IsUndefined()) return true;
	if (!value.IsBoolean()) return Refuse(options, std::string(name) + " must be a boolean");
	*out = value.As<Napi::Boolean>().Value();
	return true;
}

Napi::Value CopyOut(Napi::Env env, const void *data, size_t size) {
	Napi::Uint8Array out = Napi::Uint8Array::New(env, size);
	if (out.IsEmpty()) return env.Undefined();
	if (size > 0) memcpy(out.Data(), data, size);
	return out;
}

}  // namespace xdpilot
