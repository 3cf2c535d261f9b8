# Completion of dynvis for bash. Bash takes `stage@field=value` for five words, since `@`, `=` and `:` break words: they are put
# together again before dynvis is asked, and what bash takes for done is left out of what it answers.
_dynvis_complete() {
    local IFS=$'\013'
    local line=${COMP_LINE:0:COMP_POINT} words=() word rest i last
    for ((i = 0; i <= COMP_CWORD; i++)); do
        rest=${line#"${line%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then
            word=$rest
        fi
        last=$((${#words[@]} - 1))
        if ((last >= 0)) && [[ $rest == "$line" ]]; then
            words[last]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
    last=$((${#words[@]} - 1))
    local current=${words[last]} before=
    case $current in
        \'* | \"*) words[last]=${current:1} ;;
        # What bash puts its choice in the place of.
        *) before=${current%"$2"} ;;
    esac
    words+=("${COMP_WORDS[@]:COMP_CWORD+1}")
    local space=true
    compopt +o nospace 2> /dev/null && space=false
    COMPREPLY=($(
        _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX="$last" _CLAP_COMPLETE_COMP_TYPE="$COMP_TYPE" \
            _CLAP_COMPLETE_SPACE="$space" VARIABLE=bash PROGRAM -- "${words[@]}"
    ))
    if (($? != 0)); then
        unset COMPREPLY
        return
    fi
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$before"}
    done
    if [[ $space == false && ${COMPREPLY-} =~ [=/:]$ ]]; then
        compopt -o nospace
    fi
}
if [[ ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 || ${BASH_VERSINFO[0]} -gt 4 ]]; then
    complete -o nospace -o bashdefault -o nosort -F _dynvis_complete dynvis
else
    complete -o nospace -o bashdefault -F _dynvis_complete dynvis
fi
