// The SentencePiece library behind C: nothing here throws, prints or keeps what it was given.
#include <cstdio>
#include <new>
#include <sentencepiece_processor.h>

extern "C" {
void *kf_spm_load(const uint8_t *proto, size_t n, char *why, size_t n_why);
void kf_spm_free(void *lib);
typedef void (*kf_spm_fn)(void *arg, int32_t id, uint32_t begin, uint32_t end);
bool kf_spm_encode(void *lib, const uint8_t *text, size_t n, kf_spm_fn fn, void *arg, char *why, size_t n_why);
}

using sentencepiece::SentencePieceProcessor;

static void say(char *why, size_t n, const char *text)
{
	std::snprintf(why, n, "%s", text);
}

void *kf_spm_load(const uint8_t *proto, size_t n, char *why, size_t n_why)
{
	SentencePieceProcessor *sp = nullptr;
	try {
		sp = new SentencePieceProcessor;
		auto status = sp->LoadFromSerializedProto({ reinterpret_cast<const char *>(proto), n });
		if (status.ok())
			return sp;
		say(why, n_why, status.error_message());
	} catch (const std::exception &e) {
		say(why, n_why, e.what());
	}
	delete sp;
	return nullptr;
}

void kf_spm_free(void *lib)
{
	delete static_cast<SentencePieceProcessor *>(lib);
}

bool kf_spm_encode(void *lib, const uint8_t *text, size_t n, kf_spm_fn fn, void *arg, char *why, size_t n_why)
{
	try {
		sentencepiece::ImmutableSentencePieceText spt;
		auto status = static_cast<SentencePieceProcessor *>(lib)->Encode(
			{ reinterpret_cast<const char *>(text), n }, spt.mutable_proto());
		if (!status.ok()) {
			say(why, n_why, status.error_message());
			return false;
		}
		size_t k = spt.pieces_size();
		for (size_t i = 0; i < k; i++) {
			auto p = spt.pieces(static_cast<int>(i));
			fn(arg, static_cast<int32_t>(p.id()), p.begin(), p.end());
		}
		return true;
	} catch (const std::exception &e) {
		say(why, n_why, e.what());
		return false;
	}
}
