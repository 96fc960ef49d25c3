"""Neutron's API, able to list ports from the first request on.

That takes relations between tables for granted which SQLAlchemy finds with the first query; if the
first is for ports, they are not there yet, nor ever (neutron 29.0.0).
"""

from neutron.wsgi.api import application as application
from sqlalchemy import orm

orm.configure_mappers()
