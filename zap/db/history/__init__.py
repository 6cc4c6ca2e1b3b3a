"""The history: users, vehicles and sessions, reports of sessions, and the remembered histories of drivers."""
