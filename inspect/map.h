/* What is in a vocabulary map. */
#ifndef KF_INSPECT_MAP_H
#define KF_INSPECT_MAP_H

#include "inspect/inspect.h"

kf_status kf_inspect_map(const kf_inspect_opts *o, FILE *out, kf_err *err) KF_MUST_CHECK;

#endif
