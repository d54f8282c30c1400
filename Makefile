# SPDX-License-Identifier: GPL-2.0-only
#
# For people; kbuild does not read it (see Kbuild). `make help` says what there is.

KDIR ?= /lib/modules/$(shell uname -r)/build

# Nothing here gains from running beside another target of the same call, and their output would mix.
.NOTPARALLEL:
.PHONY: help module lib tools demo check check-bench-self bench lint install install-lib install-tools dkms-install \
	dkms-remove clean

help:
	@echo 'make module               build the module for the running kernel (KDIR=... for another)'
	@echo 'make lib                  build the library for programs that use gmemfd (lib/), shared and static'
	@echo 'make tools                build gmemctl (tools/); takes libjson-c-dev and libkmod-dev'
	@echo 'make demo                 QEMU resumes a saved Linux guest whose memory is still in its image'
	@echo 'make check                build for every kernel, lint, boot every kernel and run all tests on it'
	@echo 'make check K="6.12 7.3"   boot only these kernels (tests/qemu/kernels.list)'
	@echo 'make check T="kvm trap"   run only the cases whose name contains one of these'
	@echo 'make check-bench-self     show that the bench finds what is broken'
	@echo 'make bench                measure, side by side with memfd and userfaultfd'
	@echo 'make lint                 what can be checked without running anything'
	@echo 'make install              install the module for the running kernel (KDIR=... for another)'
	@echo 'make install-lib          install the library, its headers and man pages (PREFIX=..., LIBDIR=..., DESTDIR=...)'
	@echo 'make install-tools        install gmemctl, its man page and completions (PREFIX=..., DESTDIR=...)'
	@echo 'make dkms-install         have DKMS build and install it, for later kernels too'
	@echo 'make dkms-remove          undo that'
	@echo 'make clean                remove build/ (the cache of kernels and build roots stays)'

module:
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' modules

lib:
	$(MAKE) -C lib

tools: lib
	$(MAKE) -C tools

demo:
	@demo/run $(K)

check:
	@tests/qemu/check $(if $(K),-k '$(K)') $(if $(T),-t '$(T)')

check-bench-self:
	@tests/qemu/selfproof/run

bench:
	@tests/bench/run

lint:
	@tests/lint/run

install: module
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' modules_install
	depmod -a "$$(cat '$(KDIR)/include/config/kernel.release')"

install-lib:
	$(MAKE) -C lib install

install-tools: lib
	$(MAKE) -C tools install

# What DKMS gets is what building the module needs, and nothing else.
VERSION := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
DKMS_TREE := $(DESTDIR)/usr/src/gmemfd-$(VERSION)

dkms-install:
	rm -rf '$(DKMS_TREE)'
	install -d '$(DKMS_TREE)'
	cp -r Kbuild dkms.conf include src '$(DKMS_TREE)'
	dkms install -m gmemfd -v $(VERSION) $(if $(K),-k '$(K)')

dkms-remove:
	dkms remove -m gmemfd -v $(VERSION) --all
	rm -rf '$(DKMS_TREE)'

clean:
	@if [ -d "$(KDIR)" ]; then $(MAKE) -s -C "$(KDIR)" M="$(CURDIR)" clean; fi
	rm -rf build
