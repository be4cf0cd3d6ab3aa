#include "report/assets.h"

#define INCLUDE(name, file) \
	__asm__(".section .rodata\n.global " #name "\n" #name ":\n.incbin \"" file "\"\n" #name "_end:\n.balign 8\n" \
		".global " #name "_size\n" #name "_size:\n.quad " #name "_end - " #name "\n.previous\n")

INCLUDE(kf_report_css, "report/page.css");
INCLUDE(kf_report_js, "report/page.js");
