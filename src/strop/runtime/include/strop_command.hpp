/* strop_command.hpp - running the `strop` command from C++ and moving whole files. Header only, C++14, POSIX. */
#ifndef STROP_COMMAND_HPP
#define STROP_COMMAND_HPP

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace strop {
namespace command {

/* The command: what the environment variable STROP_COMMAND names, or `strop`. */
inline std::string name()
{
    char const *given = std::getenv("STROP_COMMAND");
    return given && *given ? given : "strop";
}

/* Runs a command without a shell, what it prints left out, errors shown; whether it ended well. */
inline bool run(std::vector<std::string> const &arguments)
{
    std::vector<char *> argv;
    for (auto const &argument : arguments)
        argv.push_back(const_cast<char *>(argument.c_str()));
    argv.push_back(nullptr);
    pid_t const child = fork();
    if (child == 0) {
        int const nowhere = open("/dev/null", O_WRONLY);
        if (nowhere >= 0)
            dup2(nowhere, STDOUT_FILENO);
        execvp(argv[0], argv.data());
        _exit(127);
    }
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

inline bool read(std::string const &path, std::vector<char> &data)
{
    std::FILE *file = std::fopen(path.c_str(), "rb");
    if (!file)
        return false;
    char block[1 << 16];
    for (std::size_t got; (got = std::fread(block, 1, sizeof block, file)) > 0;)
        data.insert(data.end(), block, block + got);
    bool const whole = !std::ferror(file);
    std::fclose(file);
    return whole;
}

inline bool write(std::string const &path, void const *data, std::size_t size)
{
    std::FILE *file = std::fopen(path.c_str(), "wb");
    if (!file)
        return false;
    bool const whole = std::fwrite(data, 1, size, file) == size;
    return std::fclose(file) == 0 && whole;
}

/* Makes a folder and those above it; whether it is there. */
inline bool make_folder(std::string const &path)
{
    for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
        mkdir(path.substr(0, at).c_str(), 0777);
    mkdir(path.c_str(), 0777);
    return access(path.c_str(), W_OK) == 0;
}

/* The folder for what may be deleted at any time; empty where there is none. As strop.knobs has it. */
inline std::string cache()
{
    char const *own = std::getenv("STROP_CACHE"), *base = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
    std::string const path = own && *own ? own : base && *base ? std::string(base) + "/strop" : home && *home ? std::string(home) + "/.cache/strop" : "";
    return !path.empty() && make_folder(path) ? path : "";
}

/* A folder that goes with its owner. */
class Folder {
public:
    Folder()
    {
        char name[] = "/tmp/strop-XXXXXX";
        path_ = mkdtemp(name) ? name : "";
    }
    ~Folder()
    {
        for (auto const &file : files_)
            std::remove(file.c_str());
        if (!path_.empty())
            rmdir(path_.c_str());
    }
    Folder(Folder const &) = delete;
    Folder &operator=(Folder const &) = delete;
    std::string file(std::string const &name)
    {
        files_.push_back(path_ + "/" + name);
        return files_.back();
    }

private:
    std::string path_;
    std::vector<std::string> files_;
};

} // namespace command
} // namespace strop

#endif /* STROP_COMMAND_HPP */
