/* Computes a conformance case, LayerNorm or an attention core, forward and backward, and writes its answer.
 *
 *     npformer vectors cases
 *     cc -std=c11 -O2 -Wall -Wextra -pedantic conformance.c -o conformance -lm
 *     ./conformance cases/layer_norm_float32 answer.safetensors
 *     npformer compare answer.safetensors cases/layer_norm_float32
 *
 * The arithmetic comes first, all of it in float; then files are read and written. A file that is not what it should
 * be gives one line on stderr, exit status 2 and no answer.
 */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LayerNorm: every row of d entries on its own. */

static void layer_norm_forward(size_t rows, size_t d, float eps, const float *x, const float *weight, const float *bias,
                               float *x_hat, float *rstd, float *output)
{
    for (size_t row = 0; row < rows; row++, x += d, x_hat += d, output += d) {
        float mean = 0, variance = 0;
        for (size_t i = 0; i < d; i++)
            mean += x[i];
        mean /= (float)d;
        /* a pass of its own: the mean of squares minus the square of the mean cancels where x is far from 0 */
        for (size_t i = 0; i < d; i++)
            variance += (x[i] - mean) * (x[i] - mean);
        variance /= (float)d;
        rstd[row] = 1 / sqrtf(variance + eps);
        for (size_t i = 0; i < d; i++) {
            x_hat[i] = (x[i] - mean) * rstd[row];
            output[i] = weight[i] * x_hat[i] + bias[i];
        }
    }
}

/* grad_x = rstd * (g - mean(g) - x_hat * mean(g * x_hat)),  g = grad_output * weight; weight and bias are used by every
 * row, so that their gradients add up over the rows. grad_weight and grad_bias are 0 at first. */
static void layer_norm_backward(size_t rows, size_t d, const float *grad_output, const float *weight,
                                const float *x_hat, const float *rstd, float *grad_x, float *grad_weight,
                                float *grad_bias)
{
    for (size_t row = 0; row < rows; row++, grad_output += d, x_hat += d, grad_x += d) {
        float mean_g = 0, mean_g_x_hat = 0;
        for (size_t i = 0; i < d; i++) {
            mean_g += grad_output[i] * weight[i];
            mean_g_x_hat += grad_output[i] * weight[i] * x_hat[i];
            grad_weight[i] += grad_output[i] * x_hat[i];
            grad_bias[i] += grad_output[i];
        }
        mean_g /= (float)d;
        mean_g_x_hat /= (float)d;
        for (size_t i = 0; i < d; i++)
            grad_x[i] = rstd[row] * (grad_output[i] * weight[i] - mean_g - x_hat[i] * mean_g_x_hat);
    }
}

/* Attention core: one query of one head at a time. */

static const float MASKED_SCORE = -1e9f;

static float dot(size_t n, const float *left, const float *right)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += left[i] * right[i];
    return sum;
}

static void add_scaled(size_t n, float scale, const float *from, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] += scale * from[i];
}

typedef struct {
    size_t T_k, d_k, d_v;
    float scale;
    bool zero_fully_masked; /* what a row gives that may attend to no key: 0, or the mean of all values */
} Core;

/* scores = scale * query key^T, replaced where the mask is 0;  weights = softmax(scores);  output = weights value.
 * scores, weights and mask are a row of T_k; output is 0 at first. */
static void attention_forward(const Core *core, const float *query, const float *key, const float *value,
                              const uint8_t *mask, float *scores, float *row_max, float *row_sum, float *logsumexp,
                              float *weights, float *output)
{
    bool fully_masked = true;
    *row_max = -INFINITY;
    for (size_t k = 0; k < core->T_k; k++) {
        scores[k] = mask[k] ? core->scale * dot(core->d_k, query, key + k * core->d_k) : MASKED_SCORE;
        *row_max = fmaxf(*row_max, scores[k]);
        fully_masked = fully_masked && !mask[k];
    }
    *row_sum = 0;
    for (size_t k = 0; k < core->T_k; k++)
        *row_sum += expf(scores[k] - *row_max);
    *logsumexp = *row_max + logf(*row_sum);
    for (size_t k = 0; k < core->T_k; k++) {
        weights[k] = fully_masked && core->zero_fully_masked ? 0 : expf(scores[k] - *row_max) / *row_sum;
        if (weights[k] != 0) /* what is masked may be NaN, and 0 * NaN is not 0 */
            add_scaled(core->d_v, weights[k], value + k * core->d_v, output);
    }
}

/* With delta = sum(grad_output * output), which is sum(grad_weights * weights): grad_scores = weights *
 * (grad_weights - delta). A masked score was replaced, so that it has no gradient. Every grad_ is 0 at first, and
 * those of key and value add up over the queries. */
static void attention_backward(const Core *core, const float *grad_output, const float *query, const float *key,
                               const float *value, const uint8_t *mask, const float *weights, const float *output,
                               float *delta, float *grad_weights, float *grad_scores, float *grad_query,
                               float *grad_key, float *grad_value)
{
    *delta = dot(core->d_v, grad_output, output);
    for (size_t k = 0; k < core->T_k; k++) {
        add_scaled(core->d_v, weights[k], grad_output, grad_value + k * core->d_v);
        if (!mask[k])
            continue;
        grad_weights[k] = dot(core->d_v, grad_output, value + k * core->d_v);
        grad_scores[k] = weights[k] * (grad_weights[k] - *delta);
        add_scaled(core->d_k, core->scale * grad_scores[k], key + k * core->d_k, grad_query);
        add_scaled(core->d_k, core->scale * grad_scores[k], query, grad_key + k * core->d_k);
    }
}

/* Files: what they may be. */

enum { MAX_AXES = 8, MAX_ARRAYS = 256, MAX_NAME = 128, MAX_HEADER = 8192, MAX_DEPTH = 32 };
static const size_t MAX_BYTES = (size_t)1 << 28; /* of a file, and of an array of the answer */

static void require(bool fits, const char *format, ...)
{
    if (fits)
        return;
    va_list arguments;
    va_start(arguments, format);
    fputs("conformance: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static void *allocate(size_t count, size_t size) /* zeros; the program is short, and its end frees them */
{
    void *memory = count <= MAX_BYTES / size ? calloc(count ? count : 1, size) : NULL;
    require(memory != NULL, "an array must have at most %zu bytes, but %zu times %zu came", MAX_BYTES, count, size);
    return memory;
}

typedef struct {
    const char *path;
    unsigned char *bytes;
    size_t size;
} File;

static const char UNREADABLE[] = "%s must be a file that can be read, but it is not";

static bool read_file(const char *path, File *file)
{
    FILE *stream = fopen(path, "rb");
    if (stream == NULL)
        return false;
    long size = fseek(stream, 0, SEEK_END) == 0 ? ftell(stream) : -1;
    require(size >= 0 && (size_t)size <= MAX_BYTES, "%s must be a file of at most %zu bytes, but it is not", path,
            MAX_BYTES);
    *file = (File){path, allocate((size_t)size, 1), (size_t)size};
    rewind(stream);
    require(fread(file->bytes, 1, file->size, stream) == file->size, UNREADABLE, path);
    fclose(stream);
    return true;
}

static uint64_t little_endian(const unsigned char *bytes, size_t count)
{
    uint64_t number = 0;
    while (count-- > 0)
        number = number << 8 | bytes[count];
    return number;
}

/* JSON: a place in a document, which a copy remembers. */

typedef struct {
    const char *path, *text;
    size_t at, length;
} Json;

typedef struct {
    const char *text;
    size_t length;
} Word;

static bool is(Word word, const char *name)
{
    return strlen(name) == word.length && memcmp(word.text, name, strlen(name)) == 0;
}

static int next(Json *json)
{
    require(json->at < json->length, "%s must hold complete JSON, but it ends too early", json->path);
    return (unsigned char)json->text[json->at++];
}

static int peek(Json *json) /* the next character that is no space; stays before it */
{
    int character = next(json);
    while (character == ' ' || character == '\t' || character == '\n' || character == '\r')
        character = next(json);
    json->at--;
    return character;
}

static bool accept(Json *json, char wanted)
{
    bool is_there = peek(json) == wanted;
    json->at += is_there;
    return is_there;
}

static void expect(Json *json, char wanted)
{
    bool is_there = accept(json, wanted);
    require(is_there, "%s must be JSON with '%c' at byte %zu, but something else is there", json->path, wanted,
            json->at);
}

/* Move to the next item between brackets, "[]" or "{}"; after the last one, behind them. */
static bool next_item(Json *json, const char *brackets, bool is_first)
{
    if (is_first)
        expect(json, brackets[0]);
    if (is_first ? !accept(json, brackets[1]) : accept(json, ','))
        return true;
    if (!is_first)
        expect(json, brackets[1]);
    return false;
}

static Word read_string(Json *json) /* escapes stay as they are: no name that is looked for has any */
{
    expect(json, '"');
    size_t start = json->at;
    for (int character = next(json); character != '"'; character = next(json)) {
        require(character >= 0x20, "%s must be JSON without control characters in strings, but byte %zu is one",
                json->path, json->at - 1);
        if (character == '\\')
            next(json);
    }
    return (Word){json->text + start, json->at - 1 - start};
}

static double read_number(Json *json)
{
    peek(json);
    char digits[64] = "", *end = digits;
    size_t length = 0;
    const char *start = json->text + json->at;
    while (length < json->length - json->at && length < sizeof digits - 1 &&
           memchr("+-.0123456789eE", start[length], 15))
        length++;
    memcpy(digits, start, length);
    double number = strtod(digits, &end);
    require(end > digits && *end == 0 && isfinite(number),
            "%s must be JSON with a value at byte %zu, but something else is there", json->path, json->at);
    json->at += length;
    return number;
}

static size_t read_size(Json *json)
{
    double number = read_number(json);
    require(number >= 0 && number <= (double)MAX_BYTES && number == floor(number),
            "%s must have sizes from 0 to %zu, but one is %g", json->path, MAX_BYTES, number);
    return (size_t)number;
}

static void skip_value(Json *json, int depth)
{
    int first = peek(json);
    require(depth < MAX_DEPTH, "%s must be JSON of less than %d levels, but it has more", json->path, MAX_DEPTH);
    if (first == '{' || first == '[') {
        for (bool is_first = true; next_item(json, first == '{' ? "{}" : "[]", is_first); is_first = false) {
            if (first == '{') {
                read_string(json);
                expect(json, ':');
            }
            skip_value(json, depth + 1);
        }
    } else if (first == 't' || first == 'f' || first == 'n') {
        for (const char *rest = first == 't' ? "true" : first == 'f' ? "false" : "null"; *rest; rest++) {
            int character = next(json);
            require(character == *rest, "%s must be JSON with a value before byte %zu, but something else is there",
                    json->path, json->at);
        }
    } else if (first == '"') {
        read_string(json);
    } else {
        read_number(json);
    }
}

/* Before an object: move to the value of its field of this name, if it has one. */
static bool find_field(Json *json, const char *name)
{
    for (bool is_first = true; next_item(json, "{}", is_first); is_first = false) {
        bool found = is(read_string(json), name);
        expect(json, ':');
        if (found)
            return true;
        skip_value(json, 1);
    }
    return false;
}

/* Arrays of a safetensors file: the length of a header, the header, the data. */

typedef struct {
    char name[MAX_NAME];
    char type[8];
    size_t axes, shape[MAX_AXES], count; /* count: of entries */
    size_t begin, end;                   /* in the data, in bytes */
    const unsigned char *bytes;
    float *values; /* of an array that was asked for, or is part of the answer */
} Array;

typedef struct {
    const char *path;
    size_t count;
    Array arrays[MAX_ARRAYS];
} Arrays;

static size_t size_of_type(const char *type) /* F64, U8, BF16, F8_E5M2: the first number is that of bits */
{
    return strcmp(type, "BOOL") == 0 ? 1 : strtoul(type + strcspn(type, "0123456789"), NULL, 10) / 8;
}

static void copy_word(const char *path, const char *what, Word word, char *to, size_t size)
{
    require(word.length < size, "%s must have %s of less than %zu bytes, but one has more", path, what, size);
    memcpy(to, word.text, word.length);
    to[word.length] = 0;
}

/* {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} */
static void read_description(Json *json, Array *array)
{
    Json dtype = *json, shape = *json, offsets = *json;
    skip_value(json, 1);
    require(find_field(&dtype, "dtype") && find_field(&shape, "shape") && find_field(&offsets, "data_offsets"),
            "%s must give %s dtype, shape and data_offsets, but it does not", json->path, array->name);
    copy_word(json->path, "names of dtypes", read_string(&dtype), array->type, sizeof array->type);
    array->count = 1;
    for (bool is_first = true; next_item(&shape, "[]", is_first); is_first = false) {
        require(array->axes < MAX_AXES, "%s must have arrays of at most %d axes, but %s has more", json->path,
                (int)MAX_AXES, array->name);
        size_t length = array->shape[array->axes++] = read_size(&shape);
        require(length == 0 || array->count <= MAX_BYTES / length,
                "%s must have arrays of at most %zu bytes, but %s has more", json->path, MAX_BYTES, array->name);
        array->count *= length;
    }
    expect(&offsets, '[');
    array->begin = read_size(&offsets);
    expect(&offsets, ',');
    array->end = read_size(&offsets);
    expect(&offsets, ']');
}

/* Check an array against the data, and against the arrays before it. */
static void check_place(const Arrays *file, const Array *array, size_t data_size)
{
    size_t size = array->count * size_of_type(array->type);
    require(size_of_type(array->type) > 0, "%s must have dtypes of safetensors, but %s has %s", file->path, array->name,
            array->type);
    require(array->begin <= array->end && array->end <= data_size && array->end - array->begin == size,
            "%s must hold %zu bytes for %s in its %zu bytes of data, but the offsets are %zu and %zu", file->path, size,
            array->name, data_size, array->begin, array->end);
    for (const Array *other = file->arrays; other < array; other++) {
        require(strcmp(other->name, array->name) != 0, "%s must have each array once, but it has %s twice", file->path,
                array->name);
        require(array->begin >= other->end || other->begin >= array->end,
                "%s must have arrays that do not overlap, but %s and %s do", file->path, other->name, array->name);
    }
}

static void read_arrays(const char *path, Arrays *arrays)
{
    File file;
    Word name;
    arrays->path = path;
    require(read_file(path, &file), UNREADABLE, path);
    require(file.size >= 8 && little_endian(file.bytes, 8) <= file.size - 8,
            "%s must hold 8 bytes and a header as long as they say, but it has %zu bytes", path, file.size);
    size_t header = (size_t)little_endian(file.bytes, 8), data_size = file.size - 8 - header, total = 0;
    Json json = {path, (const char *)file.bytes + 8, 0, header};
    for (bool is_first = true; next_item(&json, "{}", is_first); is_first = false) {
        name = read_string(&json);
        expect(&json, ':');
        if (is(name, "__metadata__")) {
            skip_value(&json, 1);
            continue;
        }
        require(arrays->count < MAX_ARRAYS, "%s must have at most %d arrays, but it has more", path, (int)MAX_ARRAYS);
        Array *array = arrays->arrays + arrays->count++;
        copy_word(path, "names", name, array->name, sizeof array->name);
        read_description(&json, array);
        check_place(arrays, array, data_size);
        array->bytes = file.bytes + 8 + header + array->begin;
        total += array->end - array->begin;
    }
    for (; json.at < header; json.at++)
        require(json.text[json.at] == ' ', "%s must have nothing but spaces after its header, but byte %zu is another",
                path, json.at);
    require(total == data_size, "%s must have no data but that of its arrays, but only %zu bytes are of arrays", path,
            total);
}

static Array *find_array(Arrays *arrays, const char *name)
{
    for (size_t i = 0; i < arrays->count; i++)
        if (strcmp(arrays->arrays[i].name, name) == 0)
            return arrays->arrays + i;
    return NULL;
}

/* An array of the case, its entries in float. */
static const Array *input(Arrays *arrays, const char *name)
{
    Array *array = find_array(arrays, name);
    require(array != NULL, "%s must hold x, weight and bias, or query, key and value, and grad_output, but not %s",
            arrays->path, name);
    bool is_double = strcmp(array->type, "F64") == 0;
    require(array->axes > 0 && array->count > 0 && (is_double || strcmp(array->type, "F32") == 0),
            "%s must hold %s as F32 or F64 with axes that are not empty, but it does not", arrays->path, name);
    array->values = allocate(array->count, sizeof(float));
    for (size_t i = 0; i < array->count; i++) {
        uint64_t bits = little_endian(array->bytes + i * (is_double ? 8 : 4), is_double ? 8 : 4);
        uint32_t low = (uint32_t)bits;
        double number;
        if (!is_double) {
            memcpy(array->values + i, &low, sizeof low);
            continue;
        }
        memcpy(&number, &bits, sizeof bits);
        require(!(fabs(number) > FLT_MAX), "%s must hold %s in the range of float, but it has %g", arrays->path, name,
                number);
        array->values[i] = (float)number;
    }
    return array;
}

/* An array of the answer, of zeros, shaped like another but for its last axis; 0 leaves that out. */
static float *output(Arrays *answer, const char *name, const Array *like, size_t last)
{
    Array *array = answer->arrays + answer->count++;
    *array = *like;
    strcpy(array->name, name);
    array->shape[array->axes - 1] = last;
    array->count = like->count / like->shape[like->axes - 1];
    require(last == 0 || array->count <= MAX_BYTES / last, "%s must have at most %zu bytes, not more", name, MAX_BYTES);
    if (last == 0)
        array->axes--;
    else
        array->count *= last;
    return array->values = allocate(array->count, sizeof(float));
}

static void append(char header[MAX_HEADER], const char *format, ...)
{
    size_t length = strlen(header);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(header + length, MAX_HEADER - length, format, arguments); /* 12 arrays take less than 300 each */
    va_end(arguments);
}

static const char UNWRITABLE[] = "%s must be a file that can be written, but it is not";

/* Written beside its place and then moved there, so that a failure leaves no half of it. */
static void write_answer(const char *path, const Arrays *answer)
{
    char header[MAX_HEADER] = "{", part[4096];
    size_t end = 0;
    for (const Array *array = answer->arrays; array < answer->arrays + answer->count; array++) {
        for (size_t i = 0; i < array->count; i++)
            require(isfinite(array->values[i]), "%s must be finite, but its entry %zu comes out as %g", array->name,
                    i, array->values[i]);
        append(header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", end ? "," : "", array->name);
        for (size_t axis = 0; axis < array->axes; axis++)
            append(header, "%s%zu", axis ? "," : "", array->shape[axis]);
        append(header, "],\"data_offsets\":[%zu,%zu]}", end, end + 4 * array->count);
        end += 4 * array->count;
    }
    append(header, "}%*s", (int)(7 - strlen(header) % 8), ""); /* the data begins at a multiple of 8 */
    require(strlen(path) < sizeof part - 8, "ANSWER must be a shorter path, but it has %zu bytes", strlen(path));
    sprintf(part, "%s.part", path);
    FILE *stream = fopen(part, "wb");
    require(stream != NULL, UNWRITABLE, path);
    for (size_t i = 0; i < 8; i++)
        putc((int)((uint64_t)strlen(header) >> 8 * i & 255), stream);
    fputs(header, stream);
    for (const Array *array = answer->arrays; array < answer->arrays + answer->count; array++)
        for (size_t i = 0; i < array->count; i++) {
            uint32_t bits;
            memcpy(&bits, array->values + i, sizeof bits);
            for (size_t byte = 0; byte < 4; byte++)
                putc((int)(bits >> 8 * byte & 255), stream);
        }
    bool failed = ferror(stream);
    if (fclose(stream) != 0 || failed || rename(part, path) != 0) {
        remove(part);
        require(false, UNWRITABLE, path);
    }
}

/* A case: its arrays say what it is, and the recipe in its case.json has the settings. */

typedef struct {
    double eps, scale; /* scale 0: 1 / sqrt(d_k) */
    bool zero_fully_masked;
} Settings;

static Settings read_settings(const char *path)
{
    Settings settings = {1e-5, 0, false};
    File file;
    if (!read_file(path, &file))
        return settings; /* those of npformer */
    Json recipe = {path, (const char *)file.bytes, 0, file.size};
    Json build;
    if (!find_field(&recipe, "recipe"))
        return settings;
    build = recipe;
    if (find_field(&build, "build")) {
        Word name = read_string(&build);
        require(is(name, "LayerNorm") || is(name, "ScaledDotProductAttention"),
                "%s must be a case of LayerNorm or ScaledDotProductAttention, but it is one of %.*s", path,
                name.length < 64 ? (int)name.length : 64, name.text);
    }
    if (!find_field(&recipe, "arguments"))
        return settings;
    Json eps = recipe, scale = recipe, fully_masked = recipe;
    if (find_field(&eps, "eps"))
        settings.eps = read_number(&eps);
    if (find_field(&scale, "scale") && peek(&scale) != 'n') /* null */
        settings.scale = read_number(&scale);
    if (find_field(&fully_masked, "fully_masked"))
        settings.zero_fully_masked = is(read_string(&fully_masked), "zero");
    return settings;
}

static const char MISFIT[] = "%s must hold %s, but it does not";

static bool same_axes(const Array *left, const Array *right, size_t axes)
{
    return left->axes == right->axes && memcmp(left->shape, right->shape, axes * sizeof *left->shape) == 0;
}

static void run_layer_norm(Arrays *arrays, const Settings *settings, Arrays *answer)
{
    const Array *x = input(arrays, "x"), *weight = input(arrays, "weight"), *bias = input(arrays, "bias");
    const Array *grad_output = input(arrays, "grad_output");
    size_t d = weight->count, rows = x->count / d;
    require(weight->axes == 1 && x->shape[x->axes - 1] == d, MISFIT, arrays->path, "weight (d) for x (..., d)");
    require(same_axes(bias, weight, 1), MISFIT, arrays->path, "bias of the shape of weight");
    require(same_axes(grad_output, x, x->axes), MISFIT, arrays->path, "grad_output of the shape of x");
    float *x_hat = output(answer, "x_hat", x, d), *rstd = output(answer, "rstd", x, 1);
    layer_norm_forward(rows, d, (float)settings->eps, x->values, weight->values, bias->values, x_hat, rstd,
                       output(answer, "output", x, d));
    layer_norm_backward(rows, d, grad_output->values, weight->values, x_hat, rstd, output(answer, "grad_x", x, d),
                        output(answer, "grad_weight", weight, d), output(answer, "grad_bias", weight, d));
}

/* A byte for each score: not 0 where the mask lets attend. The mask's axes are the last ones of the scores, as long as
 * theirs, or 1. */
static uint8_t *broadcast_mask(const char *path, const Array *mask, size_t axes, const size_t *shape, size_t count)
{
    uint8_t *visible = memset(allocate(count, 1), 1, count);
    if (mask == NULL)
        return visible;
    require(size_of_type(mask->type) == 1 && mask->axes <= axes, MISFIT, path, "a mask of bytes that broadcasts");
    shape += axes - mask->axes;
    for (size_t axis = 0; axis < mask->axes; axis++)
        require(mask->shape[axis] == 1 || mask->shape[axis] == shape[axis], MISFIT, path, "a mask that broadcasts");
    for (size_t i = 0; i < count; i++) {
        size_t place = 0, step = 1, rest = i;
        for (size_t axis = mask->axes; axis-- > 0; rest /= shape[axis])
            if (mask->shape[axis] != 1) {
                place += rest % shape[axis] * step;
                step *= shape[axis];
            }
        visible[i] = mask->bytes[place];
    }
    return visible;
}

static void run_attention(Arrays *arrays, const Settings *settings, Arrays *answer)
{
    const Array *query = input(arrays, "query"), *key = input(arrays, "key"), *value = input(arrays, "value");
    const Array *grad_output = input(arrays, "grad_output");
    size_t axes = query->axes;
    require(axes >= 2 && same_axes(key, query, axes - 2) && same_axes(value, query, axes - 2), MISFIT, arrays->path,
            "query (..., T_q, d_k), key (..., T_k, d_k) and value (..., T_k, d_v)");
    size_t T_q = query->shape[axes - 2], T_k = key->shape[axes - 2], d_k = query->shape[axes - 1];
    size_t d_v = value->shape[axes - 1], heads = query->count / (T_q * d_k);
    require(key->shape[axes - 1] == d_k && value->shape[axes - 2] == T_k, MISFIT, arrays->path, "keys for values");
    require(same_axes(grad_output, query, axes - 1) && grad_output->shape[axes - 1] == d_v, MISFIT, arrays->path,
            "grad_output (..., T_q, d_v)");
    require(find_array(arrays, "dropout.mask") == NULL, MISFIT, arrays->path, "a case without dropout");

    float scale = settings->scale != 0 ? (float)settings->scale : 1 / sqrtf((float)d_k);
    Core core = {T_k, d_k, d_v, scale, settings->zero_fully_masked};
    float *scores = output(answer, "scores", query, T_k), *row_max = output(answer, "row_max", query, 0);
    float *row_sum = output(answer, "row_sum", query, 0), *logsumexp = output(answer, "logsumexp", query, 0);
    float *weights = output(answer, "weights", query, T_k), *out = output(answer, "output", query, d_v);
    float *grad_weights = output(answer, "grad_weights", query, T_k), *delta = output(answer, "delta", query, 0);
    float *grad_scores = output(answer, "grad_scores", query, T_k);
    float *grad_query = output(answer, "grad_query", query, d_k), *grad_key = output(answer, "grad_key", key, d_k);
    float *grad_value = output(answer, "grad_value", value, d_v);
    const Array *mask = find_array(arrays, "mask"), *of_scores = find_array(answer, "scores");
    const uint8_t *visible = broadcast_mask(arrays->path, mask, axes, of_scores->shape, of_scores->count);
    for (size_t i = 0; i < heads * T_q; i++) {
        size_t keys = i / T_q * T_k; /* of the heads before this one */
        const float *q = query->values + i * d_k, *k = key->values + keys * d_k, *v = value->values + keys * d_v;
        attention_forward(&core, q, k, v, visible + i * T_k, scores + i * T_k, row_max + i, row_sum + i, logsumexp + i,
                          weights + i * T_k, out + i * d_v);
        attention_backward(&core, grad_output->values + i * d_v, q, k, v, visible + i * T_k, weights + i * T_k,
                           out + i * d_v, delta + i, grad_weights + i * T_k, grad_scores + i * T_k,
                           grad_query + i * d_k, grad_key + keys * d_k, grad_value + keys * d_v);
    }
}

int main(int argc, char **argv)
{
    static Arrays arrays, answer;
    char path[4096];
    require(argc == 3, "two arguments are needed, CASE_FOLDER and ANSWER.safetensors, but %d came", argc - 1);
    require(strlen(argv[1]) < sizeof path - 32, "CASE_FOLDER must be a shorter path, but it has %zu bytes",
            strlen(argv[1]));
    sprintf(path, "%s/case.json", argv[1]);
    Settings settings = read_settings(path);
    sprintf(path, "%s/arrays.safetensors", argv[1]);
    read_arrays(path, &arrays);
    if (find_array(&arrays, "query") != NULL)
        run_attention(&arrays, &settings, &answer);
    else
        run_layer_norm(&arrays, &settings, &answer);
    write_answer(argv[2], &answer);
    return 0;
}
