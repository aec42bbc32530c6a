#!/usr/bin/env bash
# GCC 12 throws away most of an AMX tile configuration before it is loaded.
#
# _tile_loadconfig() loads 64 bytes (Intel SDM, LDTILECFG). The intrinsic of GCC 12 tells the compiler that it reads 8
# (a pointer's worth), so the stores to the others are dead and go: the rows and bytes per row of the tiles. The
# function below fills the whole configuration in; the compiled one stores the first 17 bytes.
#
# Where it hurts: ggml-cpu's matrix-unit kernels (llama.cpp, ggml 0.25.3, built from the source package of
# llama-cpp-python 0.3.36 with GGML_NATIVE on Debian 12) end the process with a general protection fault at the first
# product on a processor with AMX, since the configuration is refused. Compiled with -mno-amx-tile all is well.
#
# Seen with gcc 12.2.0-14+deb12u1 (Debian 12, amd64): nothing is run here, the compiler's output is read.
set -euo pipefail
version=12.2.0-14+deb12u1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq "gcc-12=$version" "cpp-12=$version" "libgcc-12-dev=$version" libisl23 libmpc3 libmpfr6 libgmp10 \
  >/dev/null 2>&1 || { echo "needs apt of Debian 12 (amd64) after 'apt-get update'"; exit 2; }
for package in *.deb; do dpkg -x "$package" root; done
cat >tile.c <<'C'
#include <immintrin.h>
struct config { unsigned char palette, start_row, reserved[14]; unsigned short bytes[16]; unsigned char rows[16]; };
void plain(void) {
    struct config c = {0};
    c.palette = 1;
    for (int i = 0; i < 8; i++) { c.rows[i] = 16; c.bytes[i] = 64; }
    _tile_loadconfig(&c);
}
void told(void) {
    struct config c = {0};
    c.palette = 1;
    for (int i = 0; i < 8; i++) { c.rows[i] = 16; c.bytes[i] = 64; }
    __asm__ volatile("ldtilecfg %0" ::"m"(c)); /* the whole is read */
}
C
gcc="root/usr/bin/x86_64-linux-gnu-gcc-12"
export LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu"
"$gcc" --version | head -n 1
"$gcc" -B "$work/root/usr/lib/gcc/x86_64-linux-gnu/12" -I "$work/root/usr/lib/gcc/x86_64-linux-gnu/12/include" \
  -O2 -mamx-tile -S -o tile.s tile.c
stored() { # bytes stored to the stack by one function before the instruction
  awk -v f="$1:" '$0==f{on=1} on&&/ldtilecfg/{exit} on&&/\(%rsp\)/{
    n = /mov(ups|aps|dqa|dqu)/ ? 16 : /movq/ ? 8 : /movl/ ? 4 : /movw/ ? 2 : /movb/ ? 1 : 0; sum += n} END{print sum+0}' tile.s
}
plain=$(stored plain) told=$(stored told)
echo "bytes of 64 stored before ldtilecfg: with the intrinsic $plain, with the whole named as read $told"
[[ $plain -lt 32 && $told -ge 64 ]] && echo "as found" || { echo "this has changed"; exit 1; }
