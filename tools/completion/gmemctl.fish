# SPDX-License-Identifier: GPL-2.0-only
#
# Completion of gmemctl for fish: asks gmemctl itself.

function __gmemctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l word (commandline -ct)
    for line in ($words[1] complete $words[2..] 2>/dev/null)
        switch $line
            case ':file' ':dir'
                # Behind the '=' of "--option=value" the value alone is a path.
                set -l option (string match -r -- '^--[a-z-]+=' $word)
                set -l path (string replace -r -- '^--[a-z-]+=' '' $word)
                if test $line = ':dir'
                    printf '%s\n' $option(__fish_complete_directories $path)
                else
                    printf '%s\n' $option(__fish_complete_path $path)
                end
            case ':command'
                __fish_complete_command
            case '*'
                echo $line
        end
    end
end

complete -c gmemctl -f -a '(__gmemctl_complete)'
