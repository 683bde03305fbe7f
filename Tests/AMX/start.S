// What a multiboot loader starts: 64-bit mode with the first 1 GiB as it lies, and the state of tiles enabled.
.set MAGIC, 0x1BADB002
.set FLAGS, 0x10000             // addresses follow
.section .start, "ax"              // at 1 MiB, see check.sh
.code32
header:
  .long MAGIC, FLAGS, -(MAGIC + FLAGS)
  .long header, header, 0, _end, start

.globl start
start:
  mov $stack_end, %esp
  movl $pointers + 3, top       // present, writable
  movl $pages + 3, pointers
  mov $0x83, %eax               // pages of 2 MiB
  mov $pages, %edi
fill:
  mov %eax, (%edi)
  add $0x200000, %eax
  add $8, %edi
  cmp $pages + 4096, %edi
  jne fill
  mov $top, %eax
  mov %eax, %cr3
  mov %cr4, %eax
  or $0x40620, %eax             // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
  mov %eax, %cr4
  mov $0xC0000080, %ecx         // EFER.LME
  rdmsr
  or $0x100, %eax
  wrmsr
  mov %cr0, %eax
  and $~0xC, %eax               // no emulation of the coprocessor
  or $0x80000003, %eax
  mov %eax, %cr0
  lgdt table_pointer
  ljmp $8, $long_mode

.code64
long_mode:
  xor %eax, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  xor %ecx, %ecx
  xor %edx, %edx
  mov $0x600E7, %eax            // x87, SSE, AVX, AVX-512, tiles
  xsetbv
  call test
halt:
  hlt
  jmp halt

.balign 8
table:
  .quad 0, 0x00209A0000000000   // 64-bit code
table_pointer:
  .word 15
  .long table

.bss
.balign 4096
top: .skip 4096
pointers: .skip 4096
pages: .skip 4096
.skip 65536
stack_end:

.section .note.GNU-stack, "", @progbits
