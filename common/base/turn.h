/* Messages of a conversation: what corpora store and chat templates render. */
#ifndef KF_BASE_TURN_H
#define KF_BASE_TURN_H

#include <stdint.h>

typedef enum { KF_SYSTEM, KF_USER, KF_ASSISTANT, KF_ROLES } kf_role;

/* The text of the messages stands one after another with nothing between; a turn's is the next `bytes` of it. */
typedef struct { uint32_t bytes; uint8_t role; } kf_turn;

const char *kf_role_name(unsigned role); /* "system", "user", "assistant" */
/* KF_ROLES when it is none of them. "human" and "gpt" are other people's names of the user and the assistant. */
kf_role kf_role_of(const char *name);

#endif
