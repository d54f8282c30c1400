# SPDX-License-Identifier: GPL-2.0-only
#
# Builds gmemctl for the guest, a part of tests/qemu/tests.mk: as it is, and once more with sanitizers, for the tests of it.
# Apart from what people have built, as the library.

gmemctl := $(CURDIR)/$(OUT)/gmemctl
gmemctl-sanitize := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined

gmemctl: $(libgmemfd)
	@$(MAKE) --no-print-directory -s -C tools OUT=$(gmemctl) LIB=$(CURDIR)/$(OUT)/libgmemfd CFLAGS='-O2 -g -Werror'
	@$(MAKE) --no-print-directory -s -C lib OUT=$(gmemctl).asan/lib CFLAGS='$(gmemctl-sanitize)' \
		$(gmemctl).asan/lib/libgmemfd.a
	@$(MAKE) --no-print-directory -s -C tools OUT=$(gmemctl).asan LIB=$(gmemctl).asan/lib \
		CFLAGS='-Werror $(gmemctl-sanitize)'

all: gmemctl
.PHONY: gmemctl
