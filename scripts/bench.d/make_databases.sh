#!/bin/sh
# Makes the databases of OpenStack's services, as an administrator of Debian's packages would, with
# a database server that runs only meanwhile. Configuration is given by the environment.
#
# Usage: make_databases.sh APP...
set -eu

make() { # NAME
    mariadb -e "CREATE DATABASE $1; GRANT ALL ON $1.* TO bench@localhost IDENTIFIED BY 'bench'"
}

url() { # NAME
    echo "mysql+pymysql://bench:bench@localhost/$1?unix_socket=/run/mysqld/mysqld.sock"
}

install -d -o mysql -g mysql /run/mysqld
mariadbd --user=mysql --skip-networking >/dev/null 2>&1 &
server=$!
until mariadb-admin --silent ping >/dev/null 2>&1; do
    kill -0 "$server"
    sleep 0.1
done
for app in "$@"; do
    make "$app"
    OS_DATABASE__CONNECTION=$(url "$app")
    export OS_DATABASE__CONNECTION
    case $app in
    keystone)
        keystone-manage db_sync
        own="--keystone-user keystone --keystone-group keystone"
        # shellcheck disable=SC2086
        keystone-manage fernet_setup $own
        # shellcheck disable=SC2086
        keystone-manage credential_setup $own
        keystone-manage bootstrap --bootstrap-password bench \
            --bootstrap-public-url http://127.0.0.1:5000/v3
        ;;
    glance) glance-manage db_sync ;;
    placement)
        OS_PLACEMENT_DATABASE__CONNECTION=$OS_DATABASE__CONNECTION placement-manage db sync
        ;;
    neutron) neutron-db-manage --config-file /etc/neutron/neutron.conf upgrade heads ;;
    nova)
        make nova_api
        make nova_cell0
        OS_API_DATABASE__CONNECTION=$(url nova_api)
        export OS_API_DATABASE__CONNECTION
        nova-manage api_db sync
        nova-manage cell_v2 map_cell0 --database_connection "$(url nova_cell0)"
        nova-manage db sync
        ;;
    esac
done
mariadb-admin shutdown
wait "$server"
