/* file.c - is this an engine file, whole and unchanged? */
#include <inttypes.h>
#include <string.h>

#include "engine.h"

static uint64_t round_up(uint64_t size)
{
    return (size + STROP_ALIGNMENT - 1) & ~(uint64_t)(STROP_ALIGNMENT - 1);
}

static int check_header(const engine_file *file, const strop_file_header *header,
                        strop_error *error)
{
    if (file->size < sizeof *header)
        return strop_fail(error, STROP_ERR_FILE,
                          "%s: not an engine file or truncated: %zu bytes, the header has %zu",
                          file->where, file->size, sizeof *header);
    if (memcmp(header->magic, strop_magic, sizeof strop_magic) != 0)
        return strop_fail(error, STROP_ERR_FILE,
                          "%s: not an engine file: it does not start with the STROP signature",
                          file->where);
    if (header->version != STROP_FORMAT_VERSION)
        return strop_fail(error, STROP_ERR_VERSION,
                          "%s: engine file of version %" PRIu32 "; this runtime reads version %u",
                          file->where, header->version, STROP_FORMAT_VERSION);
    if (header->file_size != file->size)
        return strop_fail(error, STROP_ERR_FILE,
                          "%s: %s: %zu bytes, the header promises %" PRIu64, file->where,
                          file->size < header->file_size ? "truncated" : "bytes were added",
                          file->size, header->file_size);
    return STROP_OK;
}

/* The head is everything before the first section. */
static int check_head(const engine_file *file, const strop_file_header *header, strop_error *error)
{
    const uint64_t end = sizeof *header + (uint64_t)header->n_sections * sizeof *file->sections;
    uint8_t head[sizeof *header + STROP_MAX_SECTIONS * sizeof *file->sections + STROP_ALIGNMENT];

    if (header->n_sections == 0 || header->n_sections > STROP_MAX_SECTIONS ||
        round_up(end) > file->size)
        return strop_fail(error, STROP_ERR_FILE, "%s: corrupt: a section count of %" PRIu32,
                          file->where, header->n_sections);
    memcpy(head, file->data, round_up(end));
    memset(head + offsetof(strop_file_header, table_checksum), 0, sizeof header->table_checksum);
    if (strop_hash64(head, round_up(end)) != header->table_checksum)
        return strop_fail(error, STROP_ERR_FILE,
                          "%s: corrupt: the header or section table was changed", file->where);
    return STROP_OK;
}

/* NUL-terminated printable ASCII. */
static int is_name(const char name[64])
{
    const char *end = memchr(name, '\0', 64);

    for (const char *p = name; end && p < end; p++)
        if (*p < ' ' || *p > '~')
            return 0;
    return end != NULL;
}

static int check_section(const engine_file *file, uint32_t index, uint64_t start,
                         strop_error *error)
{
    const strop_section_record *s = &file->sections[index];

    if (!is_name(s->name))
        return strop_fail(error, STROP_ERR_FILE, "%s: corrupt: the name of section %" PRIu32,
                          file->where, index);
    if (s->kind < STROP_SECTION_MANIFEST || s->kind > STROP_SECTION_HOST)
        return strop_fail(error, STROP_ERR_VERSION, "%s: section %" PRIu32 " is of kind %" PRIu32
                          ", which this runtime does not know", file->where, index, s->kind);
    if (s->offset != start || s->size > file->size - start ||
        round_up(s->size) > file->size - start)
        return strop_fail(error, STROP_ERR_FILE,
                          "%s: corrupt: section %" PRIu32 " '%s' at %" PRIu64 " with %" PRIu64
                          " bytes",
                          file->where, index, s->name, s->offset, s->size);
    if (strop_hash64(file->data + s->offset, round_up(s->size)) != s->checksum)
        return strop_fail(error, STROP_ERR_FILE, "%s: corrupt: bytes of section %" PRIu32
                          " '%s' were changed", file->where, index, s->name);
    return STROP_OK;
}

/* Exactly one manifest, plan and weights; at most one graph; any number of code sections. */
static int check_kinds(const engine_file *file, strop_error *error)
{
    static const struct {
        uint32_t kind, least;
        const char *name;
    } rules[] = {
        {STROP_SECTION_MANIFEST, 1, "manifest"},
        {STROP_SECTION_GRAPH, 0, "graph"},
        {STROP_SECTION_PLAN, 1, "plan"},
        {STROP_SECTION_WEIGHTS, 1, "weights"},
        {STROP_SECTION_CUSTOM, 0, "custom"},
    };

    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        uint32_t count = 0;

        for (uint32_t i = 0; i < file->n_sections; i++)
            count += file->sections[i].kind == rules[r].kind;
        if (count < rules[r].least || count > 1)
            return strop_fail(error, STROP_ERR_FILE, "%s: corrupt: %" PRIu32 " %s sections",
                              file->where, count, rules[r].name);
    }
    return STROP_OK;
}

int file_check(engine_file *file, strop_error *error)
{
    const strop_file_header *header = (const void *)file->data;
    uint64_t end;
    int code = check_header(file, header, error);

    if (!code)
        code = check_head(file, header, error);
    if (code)
        return code;
    file->sections = (const void *)(file->data + sizeof *header);
    file->n_sections = header->n_sections;
    end = round_up(sizeof *header + (uint64_t)header->n_sections * sizeof *file->sections);
    for (uint32_t i = 0; i < file->n_sections; i++) {
        code = check_section(file, i, end, error);
        if (code)
            return code;
        end += round_up(file->sections[i].size);
    }
    if (end != file->size)
        return strop_fail(error, STROP_ERR_FILE, "%s: corrupt: %" PRIu64 " bytes in sections, %zu "
                          "in the file", file->where, end, file->size);
    return check_kinds(file, error);
}

const strop_section_record *file_section(const engine_file *file, uint32_t kind)
{
    for (uint32_t i = 0; i < file->n_sections; i++)
        if (file->sections[i].kind == kind)
            return &file->sections[i];
    return NULL;
}
