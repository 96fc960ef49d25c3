"""The keeper of services where PID 1 is not systemd: s6, or supervisor from PyPI.

    appb supervise       holds the node's lock; starts the supervisor, then the enabled services
      s6-svscan          or supervisord; ends when `appb supervise` ends
        holder           has the sockets, and starts what is due (services/holder.py)
        appb run         a starter for each instance; below it its init, then the service

Everything of it is below /run/appb and made anew at each start, but for which services are not
started at boot and when timers were last due (/var/lib/appb) and what services say (/var/log/appb).
"""
