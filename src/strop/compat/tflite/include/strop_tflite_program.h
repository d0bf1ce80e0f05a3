/*
 * strop_tflite_program.h - what the headers of tensorflow/lite have in common below their classes: the sheet of tensors
 * that an engine carries (strop/frontend/tflite_sheet.py says how it is written), and engines made of .tflite files.
 */
#ifndef STROP_TFLITE_PROGRAM_H
#define STROP_TFLITE_PROGRAM_H

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "strop.h"
#include "strop_command.hpp"

namespace strop_tflite {

struct SheetTensor {
    std::string type, place, name; /* place: "in", "out" or "", and the engine's name of it in holder */
    std::string holder;
    std::vector<int> shape, signature;
    int axis = 0;
    std::vector<float> scales;
    std::vector<int> zeros;
};

struct SheetOp {
    std::string code;
    std::vector<int> inputs, outputs;
};

struct Signature {
    std::string key;
    int subgraph = 0;
    std::vector<std::pair<std::string, int>> inputs, outputs;
};

struct Variable {
    std::string input, output;
    std::size_t size = 0;
};

struct Sheet {
    int subgraphs = 1, subgraph = 0;
    std::string key;
    std::vector<SheetTensor> tensors;
    std::vector<int> inputs, outputs;
    std::vector<SheetOp> operators;
    std::vector<Signature> signatures;
    std::vector<Variable> variables;
};

namespace detail {

inline int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* A percent-encoded name; "%" alone is the empty one. */
inline std::string decoded(std::string const &word)
{
    std::string found;
    if (word == "%")
        return found;
    for (std::size_t i = 0; i < word.size(); i++) {
        if (word[i] == '%' && i + 2 < word.size() && hex(word[i + 1]) >= 0 && hex(word[i + 2]) >= 0) {
            found += static_cast<char>(hex(word[i + 1]) * 16 + hex(word[i + 2]));
            i += 2;
        } else {
            found += word[i];
        }
    }
    return found;
}

inline std::string name(std::istringstream &line)
{
    std::string word;
    line >> word;
    return decoded(word);
}

template <typename T> bool numbers(std::istringstream &line, std::vector<T> &to, long count)
{
    if (count < 0 || count > (1L << 20))
        return false;
    for (long k = 0; k < count; k++) {
        std::string word;
        if (!(line >> word))
            return false;
        to.push_back(static_cast<T>(std::strtod(word.c_str(), nullptr)));
    }
    return true;
}

template <typename T> bool counted(std::istringstream &line, std::vector<T> &to)
{
    long count = -1;
    return line >> count && numbers(line, to, count);
}

inline bool named(std::istringstream &line, std::vector<std::pair<std::string, int>> &to)
{
    long count = -1;
    if (!(line >> count) || count < 0 || count > (1L << 20))
        return false;
    for (long k = 0; k < count; k++) {
        std::string const key = name(line);
        int number = -1;
        if (!(line >> number))
            return false;
        to.emplace_back(key, number);
    }
    return true;
}

inline bool tensor(std::istringstream &line, Sheet &sheet)
{
    SheetTensor t;
    std::string place;
    std::size_t number = 0;
    long rank = 0, count = 0;
    if (!(line >> number >> t.type >> place) || number != sheet.tensors.size())
        return false;
    t.name = name(line);
    if (place != "-") {
        t.place = place.substr(0, place.find(':'));
        t.holder = decoded(place.substr(place.find(':') + 1));
    }
    if (!(line >> rank) || !numbers(line, t.shape, rank) || !numbers(line, t.signature, rank) || !(line >> t.axis >> count))
        return false;
    if (!numbers(line, t.scales, count) || !numbers(line, t.zeros, count))
        return false;
    sheet.tensors.push_back(t);
    return true;
}

inline bool ends(std::istringstream &line, std::vector<int> &to)
{
    for (int number; line >> number;)
        to.push_back(number);
    return true;
}

inline bool line(std::string const &text, Sheet &sheet)
{
    std::istringstream words(text);
    std::string kind;
    words >> kind;
    if (kind == "tensor")
        return tensor(words, sheet);
    if (kind == "input" || kind == "output")
        return ends(words, kind == "input" ? sheet.inputs : sheet.outputs);
    if (kind == "op") {
        SheetOp op;
        op.code = name(words);
        bool const sound = counted(words, op.inputs) && counted(words, op.outputs);
        sheet.operators.push_back(op);
        return sound;
    }
    if (kind == "signature") {
        Signature s;
        s.key = name(words);
        bool const sound = words >> s.subgraph && named(words, s.inputs) && named(words, s.outputs);
        sheet.signatures.push_back(s);
        return sound;
    }
    if (kind == "variable") {
        Variable v;
        v.input = name(words), v.output = name(words);
        bool const sound = static_cast<bool>(words >> v.size);
        sheet.variables.push_back(v);
        return sound;
    }
    return kind == "end";
}

inline bool has(Sheet const &sheet, std::vector<int> const &numbers, int least = 0)
{
    for (int number : numbers)
        if (number < least || number >= static_cast<int>(sheet.tensors.size()))
            return false;
    return true;
}

} // namespace detail

/* Reads a sheet; false when it is none. */
inline bool parse(std::string const &text, Sheet &sheet)
{
    std::istringstream lines(text);
    std::string line, head;
    int version = 0;
    if (!std::getline(lines, line))
        return false;
    std::istringstream first(line);
    if (!(first >> head >> version >> sheet.subgraphs >> sheet.subgraph) || head != "tflite" || version != 1)
        return false;
    sheet.key = detail::name(first);
    bool sound = true, ended = false;
    while (sound && !ended && std::getline(lines, line)) {
        sound = detail::line(line, sheet);
        ended = line == "end";
    }
    sound = sound && ended && detail::has(sheet, sheet.inputs) && detail::has(sheet, sheet.outputs);
    for (auto const &op : sheet.operators)
        sound = sound && detail::has(sheet, op.inputs, -1) && detail::has(sheet, op.outputs);
    return sound;
}

/* The schema's name of an element type. */
inline char const *type_name(std::uint32_t dtype)
{
    switch (dtype) {
    case STROP_F32: return "FLOAT32";
    case STROP_F16: return "FLOAT16";
    case STROP_BF16: return "BFLOAT16";
    case STROP_F64: return "FLOAT64";
    case STROP_I8: return "INT8";
    case STROP_U8: return "UINT8";
    case STROP_I16: return "INT16";
    case STROP_U16: return "UINT16";
    case STROP_I32: return "INT32";
    case STROP_U32: return "UINT32";
    case STROP_I64: return "INT64";
    case STROP_U64: return "UINT64";
    case STROP_BOOL: return "BOOL";
    default: return "NOTYPE";
    }
}

/* A loaded engine and what it carries. */
class Program {
public:
    explicit Program(strop_engine *engine) : engine_(engine) {}
    ~Program() { strop_engine_destroy(engine_); }
    Program(Program const &) = delete;
    Program &operator=(Program const &) = delete;

    strop_engine *engine() const { return engine_; }
    Sheet const &sheet() const { return sheet_; }
    /* First values of the variables, one after the other. */
    std::vector<char> const &state() const { return state_; }

    /* Loads an engine file; nullptr and the reason where that fails. */
    static std::shared_ptr<Program> load(std::string const &path, std::string &why)
    {
        strop_engine *engine = nullptr;
        strop_error error;
        if (strop_engine_load(path.c_str(), &engine, &error) != STROP_OK) {
            why = error.message;
            return nullptr;
        }
        auto made = std::make_shared<Program>(engine);
        if (!made->read(why))
            return nullptr;
        return made;
    }

private:
    bool read(std::string &why)
    {
        std::size_t size = 0;
        auto const *text = static_cast<char const *>(strop_engine_attachment(engine_, "tflite", &size));
        if (!text) {
            plain();
            return true;
        }
        if (!parse(std::string(text, size), sheet_)) {
            why = "what the engine carries of a TFLite file cannot be read";
            return false;
        }
        text = static_cast<char const *>(strop_engine_attachment(engine_, "tflite.state", &size));
        if (text)
            state_.assign(text, text + size);
        std::size_t wanted = 0;
        for (auto const &variable : sheet_.variables)
            wanted += variable.size;
        if (wanted != state_.size())
            why = "the engine's variables do not fit it";
        return wanted == state_.size();
    }

    /* Of an engine that was not built from a .tflite file: its inputs and outputs are its tensors. */
    void plain()
    {
        std::uint32_t const inputs = strop_engine_input_count(engine_), outputs = strop_engine_output_count(engine_);
        for (std::uint32_t i = 0; i < inputs + outputs; i++) {
            strop_tensor_info info;
            strop_error error;
            if ((i < inputs ? strop_engine_input_info(engine_, i, &info, &error) : strop_engine_output_info(engine_, i - inputs, &info, &error)) != STROP_OK)
                continue;
            SheetTensor t;
            t.type = type_name(info.dtype), t.name = t.holder = info.name, t.place = i < inputs ? "in" : "out";
            for (std::uint32_t k = 0; k < info.rank; k++) {
                t.shape.push_back(static_cast<int>(info.dims[k]));
                t.signature.push_back(info.least[k] == info.most[k] ? t.shape.back() : -1);
            }
            (i < inputs ? sheet_.inputs : sheet_.outputs).push_back(static_cast<int>(sheet_.tensors.size()));
            sheet_.tensors.push_back(t);
        }
    }

    strop_engine *engine_;
    Sheet sheet_;
    std::vector<char> state_;
};

/* Shapes of inputs that are asked for, by the names that the engine has for them. */
using Shapes = std::map<std::string, std::vector<int>>;

/* A .tflite file, or an engine in its place. */
class Model {
public:
    explicit Model(std::string path) : path_(std::move(path)) {}
    Model(void const *data, std::size_t size)
    {
        path_ = folder_.file("model.tflite");
        strop::command::write(path_, data, size);
    }

    std::string const &path() const { return path_; }

    /* What the first bytes say: 'e' an engine, 't' a .tflite file, 'x' neither, '0' nothing that can be opened. */
    char kind() const
    {
        std::FILE *file = std::fopen(path_.c_str(), "rb");
        if (!file)
            return '0';
        char head[8] = {};
        std::size_t const got = std::fread(head, 1, sizeof head, file);
        std::fclose(file);
        return got < sizeof head ? 'x' : !std::memcmp(head, "STROP\0\r\n", 8) ? 'e' : !std::memcmp(head + 4, "TFL3", 4) ? 't' : 'x';
    }

    /*
     * The engine: the file itself, the file with .strop behind its name where that is not older, one that was compiled
     * before, or a new one.
     */
    std::shared_ptr<Program> program(std::string const &signature, Shapes const &shapes, int threads, std::string &why) const
    {
        if (kind() == 'e')
            return Program::load(path_, why);
        if (signature.empty() && shapes.empty() && is_fresh(path_ + ".strop"))
            return Program::load(path_ + ".strop", why);
        std::vector<std::string> arguments{strop::command::name(), "build", path_, "--stored-shapes", "--level", "0", "--threads", std::to_string(threads)};
        if (!signature.empty())
            arguments.insert(arguments.end(), {"--signature", signature});
        for (auto const &shape : shapes) {
            std::string text = shape.first + "=";
            for (std::size_t k = 0; k < shape.second.size(); k++)
                text += (k ? "x" : "") + std::to_string(shape.second[k]);
            arguments.insert(arguments.end(), {"--shape", text});
        }
        std::vector<char> data;
        if (!strop::command::read(path_, data)) {
            why = "the model cannot be read: " + path_;
            return nullptr;
        }
        std::string const cache = strop::command::cache();
        bool const kept = !cache.empty() && strop::command::make_folder(cache + "/tflite");
        strop::command::Folder folder;
        std::string const out = kept ? cache + "/tflite/" + digest(data, arguments) + ".strop" : folder.file("engine.strop");
        if (kept && access(out.c_str(), R_OK) == 0) {
            auto found = Program::load(out, why);
            if (found)
                return found;
        }
        arguments.insert(arguments.end(), {"-o", out});
        if (!strop::command::run(arguments)) {
            why = "the model cannot be compiled; where there is no compiler, put the engine beside it: " + arguments[0] + " build " + path_ + " -o " + path_ + ".strop";
            return nullptr;
        }
        return Program::load(out, why);
    }

private:
    bool is_fresh(std::string const &engine) const
    {
        struct stat own, other;
        return !stat(engine.c_str(), &other) && !stat(path_.c_str(), &own) && other.st_mtime >= own.st_mtime;
    }

    /* Of the model's bytes, the options and the processor. */
    static std::string digest(std::vector<char> const &data, std::vector<std::string> const &arguments)
    {
        std::string options = strop_cpu_target();
        for (std::size_t k = 3; k < arguments.size(); k++)
            options += " " + arguments[k];
        char text[40];
        std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(strop_hash64(data.data(), data.size())),
                      static_cast<unsigned long long>(strop_hash64(options.data(), options.size())));
        return text;
    }

    strop::command::Folder folder_;
    std::string path_;
};

} // namespace strop_tflite

#endif /* STROP_TFLITE_PROGRAM_H */
