#!/bin/sh
# real.sh PROGRAM DIRECTORY: runs a media program in a container, on a directory of a library, and prints what it found
# and what it left there, without times and numbers of its own.
program=$1 top=$2
own=$(mktemp -d)
export HOME="$own"
until_it() { # COMMAND: waits until a command succeeds
    tries=0
    until sh -c "$1" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { echo "not in 60 s: $1"; return; }
        sleep 0.2
    done
}
listed() { (cd "$1" && find . -name '.stfolder*' -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12); }
export RESTIC_PASSWORD=own BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
case $program in
restic)
    restic -q -r "$own/r" init && restic -q -r "$own/r" backup "$top" && restic -q -r "$own/r" restore latest --target "$own/back"
    echo "$? $(listed "$own/back$top")"
    ;;
borgmatic)
    printf '%s\n' location: "  source_directories: ['$top']" "  repositories: ['$own/r']" >"$own/c.yaml"
    borgmatic --log-file "$own/log" -c "$own/c.yaml" init -e none >/dev/null 2>&1
    borgmatic --log-file "$own/log" -c "$own/c.yaml" create >/dev/null 2>&1
    mkdir "$own/back" && cd "$own/back" && borgmatic --log-file "$own/log" -c "$own/c.yaml" extract --archive latest >/dev/null 2>&1
    echo "$? $(listed "$own/back$top")"
    ;;
rclone)
    rclone -q sync "$top" "$own/copy" && rclone -q check "$top" "$own/copy" 2>&1
    echo "$? $(listed "$own/copy")"
    ;;
minidlna)
    printf '%s\n' "media_dir=$top" "db_dir=$own/db" "log_dir=$own" port=8200 inotify=no >"$own/c.conf"
    minidlnad -d -f "$own/c.conf" -P "$own/pid" >"$own/log" 2>&1 &
    until_it "grep -q 'Scanning .* finished' $own/log"
    kill $!
    wait $! || true # until it is gone, it has the database
    sqlite3 "$own/db/files.db" "select count(*), sum(size) from details where path like '/%'"
    ;;
samba)
    mkdir "$own/s"
    printf '%s\n' '[global]' "private dir=$own/s" "lock directory=$own/s" "state directory=$own/s" "cache directory=$own/s" \
        "pid directory=$own/s" "ncalrpc dir=$own/s" "log file=$own/log" 'map to guest=bad user' 'smb ports=4450' 'server role=standalone' \
        '[media]' "path=$top" 'read only=no' 'guest ok=yes' 'force user=root' >"$own/c.conf"
    smbd -F --no-process-group -s "$own/c.conf" >/dev/null 2>&1 &
    until_it "smbclient -s $own/c.conf -p 4450 -N //127.0.0.1/media -c ls"
    head -c 300000 /dev/zero >"$own/film"
    smbclient -s "$own/c.conf" -p 4450 -N //127.0.0.1/media -c "mkdir smb; put $own/film smb/a.mkv; rename smb/a.mkv smb/b.mkv;
        put $own/film smb/c.mkv; del smb/c.mkv; get smb/b.mkv $own/again" 2>&1 | grep -vE '(putt|gett)ing file'
    cmp "$own/film" "$own/again"
    ls -R "$top/smb"
    kill $! # it ends its process group, and so this script
    ;;
transmission)
    mkdir -p "$top/complete" && head -c 3000000 /dev/zero | tr '\0' x >"$top/seed.iso"
    transmission-create -o "$own/t.torrent" "$top/seed.iso" >/dev/null
    transmission-daemon -f -g "$own/c" -w "$top" -p 9092 -P 51999 --no-auth >"$own/log" 2>&1 &
    until_it 'transmission-remote 9092 -l'
    transmission-remote 9092 -a "$own/t.torrent" -w "$top" >/dev/null
    until_it "transmission-remote 9092 -t 1 -i | grep 'Percent Done: 100%'"
    transmission-remote 9092 -t 1 --move "$top/complete" >/dev/null
    until_it "test -e $top/complete/seed.iso"
    transmission-remote 9092 -t 1 -v >/dev/null
    until_it "transmission-remote 9092 -t 1 -i | grep 'Percent Done: 100%'"
    transmission-remote 9092 -t 1 -i | grep -E 'Percent Done|Have|Location|Error'
    transmission-remote 9092 -t 1 --remove-and-delete >/dev/null
    until_it "test ! -e $top/complete/seed.iso"
    kill $!
    ls "$top/complete"
    ;;
syncthing)
    # Two of them: the library's, and a phone's.
    for one in library phone; do
        syncthing generate --no-default-folder --skip-port-probing --home="$own/$one" >/dev/null 2>&1
    done
    mkdir "$own/files" "$own/files/.stfolder" "$top/.stfolder"
    echo from the phone >"$own/files/phone.jpg"
    port=8400 pids=
    for one in library phone; do
        other=$([ $one = library ] && echo phone || echo library)
        there=$([ $one = library ] && echo "$top" || echo "$own/files")
        id=$(syncthing --home="$own/$other" --device-id)
        self=$(syncthing --home="$own/$one" --device-id)
        cat >"$own/$one/config.xml" <<END
<configuration version="36"><folder id="f" path="$there" type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1">
<device id="$id"/><device id="$self"/></folder>
<device id="$id"><address>tcp://127.0.0.1:$((port == 8400 ? 8411 : 8410))</address></device><device id="$self"><address>dynamic</address></device>
<gui enabled="true"><address>127.0.0.1:$port</address><apikey>key</apikey></gui>
<options><listenAddress>tcp://127.0.0.1:$((port + 10))</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled></options></configuration>
END
        syncthing serve --no-browser --no-restart --no-upgrade --home="$own/$one" >"$own/$one.log" 2>&1 &
        pids="$pids $!"
        port=$((port + 1))
    done
    until_it "test -e '$top/phone.jpg'"
    for port in 8400 8401; do # each has what the other has
        asked="curl -s -H X-API-Key:key 'http://127.0.0.1:$port/rest/db/status?folder=f'"
        until_it "$asked | grep -q '\"state\": \"idle\"' && $asked | grep -q '\"needTotalItems\": 0'"
    done
    listed "$own/files"
    rm "$own/files/phone.jpg"
    until_it "test ! -e '$top/phone.jpg'"
    kill $pids
    wait
    rm -r "$top"/.stfolder*
    ;;
esac
cd / && rm -rf "$own"
