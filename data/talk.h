/* Conversations: read from a JSONL record, normalised, cut between exchanges. */
#ifndef KF_DATA_TALK_H
#define KF_DATA_TALK_H

#include <jansson.h>

#include "common/base/mem.h"
#include "common/base/turn.h"

typedef struct {
	kf_buf text;               /* the messages' texts, one after another */
	kf_turn *turn;             /* (n) */
	uint32_t n, cap;
} kf_talk;

void kf_talk_release(kf_talk *t);

/* Read [{"role": ..., "content": ...}, ...], or with other people's names [{"from": ..., "value": ...}, ...]. Texts lose the
 * white space at their ends, so that templates that trim and templates that do not see the same bytes, and are normalised
 * to NFC if asked. KF_EDATA, with where and the message, for what is no conversation with an assistant. */
kf_status kf_talk_read(kf_talk *t, const json_t *messages, const char *where, bool nfc, kf_err *err) KF_MUST_CHECK;

/* How many turns from the first-th on make the next piece: whole exchanges, as many as fit in limit bytes, one at least. An
 * exchange begins with a user's message that comes after an assistant's, and holds a reply: so every piece has one. */
uint32_t kf_talk_cut(const kf_turn *turns, uint32_t n, uint32_t first, size_t limit);

#endif
